"""What a recipe's input pipeline gives, and how fast: no training."""

import time

import numpy as np
import tensorflow as tf

from keras_qkformer.data import pipeline
from keras_qkformer.data.images.encoded_images import EncodedImages, plain_errors
from keras_qkformer.training.setup import prepare_training_data


def preview(recipe, count=32):
    """The first examples of training as the network sees them.

    Args:
        recipe: a `Recipe`.
        count: int > 0. Of examples.

    Returns:
        `(inputs, captions)`: float array `(count, [time,] height, width, channels)`,
        with the normalization taken back, so 1 is the largest value of a pixel; and the
        names of their classes, with probabilities where an augmentation mixes labels.

    Raises:
        ValueError: if a value of the recipe does not fit.
    """
    data = prepare_training_data(recipe)
    inputs, labels = [], []
    with plain_errors():
        for batch, label in data.dataset(first_epoch=0, epochs=1):
            inputs.append(batch.numpy())
            labels.append(label.numpy())
            if sum(map(len, inputs)) >= count:
                break
    inputs, labels = np.concatenate(inputs)[:count], np.concatenate(labels)[:count]
    values = data.preprocessing
    inputs = inputs * np.array(values.std) + np.array(values.mean)
    return inputs, [_caption(label, data.class_names) for label in labels]


def _caption(label, names):
    if np.ndim(label) == 0:
        return names[int(label)]
    smallest = label.min() + 1e-3  # What smoothing gives to every class.
    chosen = [i for i in np.argsort(-label, kind="stable")[:2] if label[i] > smallest]
    return "\n".join(f"{names[i]} {label[i]:.2f}" for i in chosen)


def benchmark(recipe, seconds=10.0):
    """How fast the input pipeline of a recipe is by itself.

    Each stage runs with all stages before it; the first batches are not counted.

    Args:
        recipe: a `Recipe`.
        seconds: float > 0. Length of the measurement of a stage.

    Returns:
        Dict from stage to images per second. Stages are `read` and `decode` of what is
        not in memory, `batch` (resized, and cut out of the image), and `augment`.

    Raises:
        ValueError: if a value of the recipe does not fit.
    """
    data = prepare_training_data(recipe)
    inputs, labels, batch = data.inputs, data.labels, recipe.data.batch_size
    stages = {}
    if isinstance(inputs, EncodedImages):
        order = np.random.default_rng(recipe.seed).permutation(inputs.numbers)
        numbers = tf.data.Dataset.from_tensor_slices(order).repeat()
        options = {"num_parallel_calls": tf.data.AUTOTUNE}
        stages["read"] = (
            1,
            numbers.map(
                lambda number: tf.numpy_function(
                    lambda n: inputs.read(int(n)), [number], tf.string
                ),
                **options,
            ),
        )
        places = tf.data.Dataset.range(len(labels)).shuffle(len(labels), recipe.seed)
        drawn = places.repeat().map(
            lambda place: (place, tf.random.uniform(pipeline.DRAWS))
        )
        window = data.options.get("window")
        stages["decode"] = (
            1,
            pipeline.read_each(inputs, labels, drawn, lambda *example: example, window),
        )
    without = {**data.options, "augment": None}
    many = {"first_epoch": 0, "epochs": 1_000_000}
    stages["batch"] = batch, data.dataset(**many, options=without)
    stages["augment"] = batch, data.dataset(**many)
    with plain_errors():
        return {
            name: size * _rate(dataset.prefetch(tf.data.AUTOTUNE), seconds)
            for name, (size, dataset) in stages.items()
        }


def _rate(dataset, seconds):
    """Elements per second, after a fifth of the time to get going."""
    iterator, start, count = iter(dataset), None, 0
    begin = time.monotonic()
    while True:
        next(iterator)
        now = time.monotonic()
        if start is not None:
            count += 1
            if now - start >= seconds:
                return count / (now - start)
        elif now - begin >= seconds / 5:
            start = now
