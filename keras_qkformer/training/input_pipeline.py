"""Look at the input pipeline of a recipe, or time it and the model."""

import contextlib
import time

import numpy as np
import tensorflow as tf

from keras_qkformer.data import pipeline
from keras_qkformer.data.images.encoded_images import EncodedImages
from keras_qkformer.data.tracing import without_autograph
from keras_qkformer.stages import stage
from keras_qkformer.training.setup import (
    compile_model,
    precision_of,
    prepare_training,
)


def preview(recipe, count=32, report_damaged=None):
    """The first training examples, as the network sees them.

    Args:
        recipe: a `Recipe`.
        count: int > 0. Number of examples.
        report_damaged: see `evaluate.evaluate`.

    Returns:
        `(inputs, captions)`: float array `(count, [time,] height, width, channels)`
        with the normalization undone, so 1 is the largest value of a pixel; and list of
        the class names, with probabilities if an augmentation mixes labels.

    Raises:
        ValueError: if a value of the recipe does not fit.
    """
    _, examples = prepare_training(recipe)
    inputs, labels = [], []
    with _reported(examples, report_damaged):
        for batch, label in examples.training(first_epoch=0, epochs=1):
            inputs.append(batch.numpy())
            labels.append(label.numpy())
            if sum(map(len, inputs)) >= count:
                break
    inputs, labels = np.concatenate(inputs)[:count], np.concatenate(labels)[:count]
    values = examples.preprocessing
    inputs = inputs * np.array(values.std) + np.array(values.mean)
    return inputs, [_caption(label, examples.class_names) for label in labels]


def _caption(label, names):
    if np.ndim(label) == 0:
        return names[int(label)]
    smallest = label.min() + 1e-3  # Label smoothing gives every class this much.
    chosen = [i for i in np.argsort(-label, kind="stable")[:2] if label[i] > smallest]
    return "\n".join(f"{names[i]} {label[i]:.2f}" for i in chosen)


def benchmark(recipe, seconds=10.0, report_damaged=None, with_model=True):
    """Measure the speed of a recipe's input pipeline, and that of its model.

    Each stage of the pipeline is timed together with all stages before it; the first
    batches are not counted. The model is timed alone, on one batch in memory.

    Args:
        recipe: a `Recipe`.
        seconds: float > 0. Duration of the measurement of each stage.
        report_damaged: see `evaluate.evaluate`.
        with_model: bool. Whether to time training steps of the model too.

    Returns:
        Dict from stage to images per second. The stages are `read` and `decode`, for
        images that are not in memory, `batch` (cropped, resized, batched), `augment`
        and, with the model, `train`.

    Raises:
        ValueError: if a value of the recipe does not fit.
    """
    with precision_of(recipe):
        model, examples = prepare_training(recipe)
    (inputs, labels), batch = examples.train, recipe.data.batch_size
    stages = {}
    if isinstance(inputs, EncodedImages):
        order = np.random.default_rng(recipe.seed).permutation(inputs.numbers)
        numbers = tf.data.Dataset.from_tensor_slices(order).repeat()
        options = {"num_parallel_calls": tf.data.AUTOTUNE}
        stages["read"] = (
            1,
            numbers.map(
                without_autograph(
                    lambda number: tf.numpy_function(
                        lambda n: inputs.read(int(n)), [number], tf.string
                    )
                ),
                **options,
            ),
        )
        places = tf.data.Dataset.range(len(labels)).shuffle(len(labels), recipe.seed)
        drawn = places.repeat().map(
            without_autograph(lambda place: (place, tf.random.uniform(pipeline.DRAWS)))
        )
        window = examples.training_functions.get("window")
        stages["decode"] = (
            1,
            pipeline.read_each(inputs, labels, drawn, lambda *example: example, window),
        )
    many = {"first_epoch": 0, "epochs": 1_000_000}
    stages["batch"] = batch, examples.training(**many, augmented=False)
    stages["augment"] = batch, examples.training(**many)
    rates = {}
    with _reported(examples, report_damaged):
        for name, (size, dataset) in stages.items():
            stage(f"measuring {name}")
            prefetched = iter(dataset.prefetch(tf.data.AUTOTUNE))
            rates[name] = size * _rate(lambda: next(prefetched), seconds)  # noqa: B023
        if with_model:
            stage("measuring train: it compiles first")
            compile_model(model, recipe, examples.steps)
            first = next(examples.training(**many).as_numpy_iterator())
            rates["train"] = batch * _rate(
                lambda: model.train_on_batch(*first), seconds
            )
    return rates


@contextlib.contextmanager
def _reported(examples, report_damaged):
    """Context that makes errors of damaged images plain, and reports skipped ones."""
    with examples.plain_errors():
        yield
    if examples.damaged and report_damaged is not None:
        report_damaged(examples.damaged)


def _rate(step, seconds):
    """Steps per second, measured after a warm-up of a fifth of the time."""
    start, count = None, 0
    begin = time.monotonic()
    while True:
        step()
        now = time.monotonic()
        if start is not None:
            count += 1
            if now - start >= seconds:
                return count / (now - start)
        elif now - begin >= seconds / 5:
            start = now
