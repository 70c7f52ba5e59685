"""Examples as tf.data pipelines, in the same order on every run."""

import dataclasses
import inspect

import numpy as np
import tensorflow as tf

from keras_qkformer.data.images.encoded_images import EncodedImages
from keras_qkformer.data.images.image_decoding import DRAWS, cut_out, decode_image
from keras_qkformer.data.source import OnDemand


def training_dataset(
    inputs,
    labels,
    *,
    transform,
    batch_size,
    seed,
    first_epoch,
    epochs,
    steps=None,
    augment=None,
    window=None,
    change=None,
    shard=(0, 1),
    splittable=False,
):
    """Batches of augmented examples, in an order that only seed and epoch decide.

    Training that is resumed at an epoch sees the same batches as training that was
    never interrupted. An image that can't be decoded is replaced by the next one in the
    split, unless `splittable`.

    Args:
        inputs: array, `OnDemand` or `EncodedImages`
            `(examples, [time,] height, width, channels)`.
        labels: int array `(examples,)`.
        transform: function from inputs, one or a batch, to model input, such as
            `Preprocessing`.
        batch_size: int. Examples beyond whole batches are left out of an epoch.
        seed: int.
        first_epoch: int. Number of the first epoch, from 0.
        epochs: int. Exclusive end epoch.
        steps: int, or `None` for all. Batches per epoch at most.
        augment: function `(inputs, labels, seed) -> (inputs, labels)` of a transformed
            batch, or `None`. `seed` is an int32 tensor of two numbers, different for
            every batch; the labels it gives may be probabilities `(batch, classes)`. If
            it has an argument `epoch`, that gets the number of the epoch. AutoGraph
            does not see it: a condition on a tensor is a `tf.cond`, or it is a
            `tf.function`.
        window: function that chooses the part of an image to decode, see
            `image_decoding.decode_image`, or `None`. Its `draws` are numbers in [0, 1),
            different for every image.
        change: function `(events, rng) -> events` for the events of an `OnDemand`
            input, or `None`. `rng` is a `numpy.random.Generator`, different for every
            example and epoch.
        shard: `(index, count)`: which of `count` parts of every batch this is. Nothing
            else is read; an augmentation sees no other part, and draws differently for
            each.
        splittable: bool. Whether workers may make the batches, each some of them, in
            any order. The dataset then has no end and runs no Python: inputs can't be
            `OnDemand` or in a zip. An image that can't be decoded is left out, and
            later examples move up, across epochs too.

    Returns:
        `tf.data.Dataset` of `(model input, labels)`, all epochs one after the other.

    Raises:
        ValueError: if there are fewer examples than a batch holds, or splittable
            batches need Python.
    """
    if len(labels) < batch_size:
        raise ValueError(
            "batch_size must not exceed the number of training examples, "
            f"{len(labels)}. Received: batch_size={batch_size}"
        )
    if splittable and isinstance(inputs, OnDemand):
        raise ValueError(
            "Batches that others make must need no Python: images, or recordings that "
            f"fit into memory. Received: {type(inputs).__name__} of {inputs.shape}"
        )
    wants_epoch = augment and "epoch" in inspect.signature(augment).parameters
    vary = _vary(inputs, window)
    steps = min(len(labels) // batch_size, steps or len(labels))
    order = _Order(len(labels), batch_size, steps, seed, shard)
    parallel = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}

    def place_and_draw(batch):
        numbers = order.numbers(batch)
        return order.places(numbers), order.draws(numbers), numbers

    def one(image, label, number):
        return (transform(image) if vary else image), label, number

    def make_batch(batch, labels, numbers):
        if not vary:
            batch = transform(batch)
        if augment is None:
            return batch, labels
        epoch, batch_seed = order.epoch_and_seed(numbers)
        extra = {"epoch": epoch} if wants_epoch else {}
        return augment(batch, labels, batch_seed, **extra)

    last = tf.int64.max if splittable else epochs * steps
    batches = tf.data.Dataset.range(first_epoch * steps, last)
    if not vary and not isinstance(inputs, OnDemand):
        # Whole batches are far faster than one by one.
        read = _reader(inputs, labels)

        def read_batch(batch):
            numbers = order.numbers(batch)
            return make_batch(*read(order.places(numbers)), numbers)

        batches = batches.map(_as_it_is(read_batch), **parallel)
    else:
        examples = batches.map(place_and_draw).unbatch()
        batches = (
            read_each(
                inputs, labels, examples, one, window, change, by_others=splittable
            )
            .batch(order.size, drop_remainder=True)
            .map(_as_it_is(make_batch), **parallel)
        )
    return batches.prefetch(tf.data.AUTOTUNE)


def _as_it_is(function):
    """Without AutoGraph, which takes seconds and finds nothing to rewrite."""
    return tf.autograph.experimental.do_not_convert(function)


@dataclasses.dataclass(frozen=True)
class _Order:
    """Which examples are in a batch, and what is drawn for them.

    Both follow from the number of the batch alone, counted over all epochs. Whoever
    makes a batch need not shuffle an epoch, nor count the batches before it.

    Attributes:
        count: int. Number of examples.
        batch_size: int. Of all shards together.
        steps: int. Batches per epoch.
        seed: int.
        shard: see `training_dataset`.
    """

    count: int
    batch_size: int
    steps: int
    seed: int
    shard: tuple[int, int]

    @property
    def size(self):
        """Examples of a batch in this shard."""
        return self.batch_size // self.shard[1]

    def numbers(self, batch):
        """Numbers `(examples,)` of the examples of a batch, over all epochs."""
        part, parts = self.shard
        first = (batch * parts + part) * self.size
        return first + tf.range(self.size, dtype=tf.int64)

    def _epoch_and_rest(self, numbers):
        per_epoch = self.steps * self.batch_size
        return numbers[0] // per_epoch, numbers % per_epoch

    def places(self, numbers):
        """Places `(examples,)` of the examples in the split."""
        epoch, rest = self._epoch_and_rest(numbers)
        key = tf.random.stateless_uniform(
            [3], tf.stack([self.seed, epoch]), None, None, tf.int64
        )
        # With 4 rounds, examples stand a bit more often beside some others.
        return tf.raw_ops.RandomIndexShuffle(
            index=rest, seed=key, max_index=self.count - 1, rounds=8
        )

    def draws(self, numbers):
        """Numbers `(examples, *DRAWS)` in [0, 1), for windows and for events."""
        epoch, rest = self._epoch_and_rest(numbers)
        # Augmentations draw with whole numbers from 0, so these are others.
        seeds = tf.stack([self.seed + epoch, -1 - rest[0]])
        return tf.random.stateless_uniform([self.size, *DRAWS], seeds)

    def epoch_and_seed(self, numbers):
        """The epoch, and the seed of the augmentation of a batch."""
        epoch, rest = self._epoch_and_rest(numbers)
        return epoch, tf.cast(tf.stack([self.seed + epoch, rest[0]]), tf.int32)


def _vary(inputs, window):
    """Whether images differ in size until they are transformed."""
    return window is not None or isinstance(inputs, EncodedImages)


def evaluation_dataset(
    inputs, labels, *, transform, batch_size, multiple_of=1, shard=(0, 1)
):
    """Every example once, in order; the last batch may be smaller.

    If every batch must be a multiple of some number, the last example is repeated at
    the end with a weight of 0. Keras divides the loss by the number of all rows, so the
    others get a weight above 1 that makes it the mean over the examples again.

    Args:
        inputs: array, `OnDemand` or `EncodedImages`, without damaged ones,
            `(examples, [time,] height, width, channels)`.
        labels: int array `(examples,)`.
        transform: function from inputs, one or a batch, to model input, such as
            `Preprocessing`.
        batch_size: int.
        multiple_of: int. Divides `batch_size`, and the size of every batch.
        shard: `(index, count)`: which of `count` parts of every batch this is;
            `count` divides `multiple_of`. Nothing else is read.

    Returns:
        `tf.data.Dataset` of `(model input, labels)`, or of these and weights
        `(batch,)` if examples are repeated.
    """
    vary, count = _vary(inputs, None), len(labels)
    padded = -(-count // multiple_of) * multiple_of
    part, parts = shard
    batches = np.split(np.arange(padded), range(batch_size, padded, batch_size))
    numbers = np.concatenate([np.split(batch, parts)[part] for batch in batches])
    batch_size //= parts

    def one(image, label):
        return (transform(image) if vary else image), label

    places = np.minimum(numbers, count - 1)
    nothing_drawn = np.zeros((len(places), 0), "float32")
    examples = tf.data.Dataset.from_tensor_slices((places, nothing_drawn))
    # Keras wants to know how many there are, and TensorFlow no longer does.
    dataset = read_each(inputs, labels, examples, one).apply(
        tf.data.experimental.assert_cardinality(len(places))
    )
    dataset = dataset.batch(batch_size)
    if not vary:
        dataset = dataset.map(
            lambda batch, labels: (transform(batch), labels),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    if padded != count:
        weights = np.where(numbers < count, padded / count, 0.0)
        weights = tf.data.Dataset.from_tensor_slices(weights.astype("float32"))
        dataset = tf.data.Dataset.zip(dataset, weights.batch(batch_size)).map(
            lambda pair, weights: (*pair, weights)
        )
    return dataset.prefetch(tf.data.AUTOTUNE)


def read_each(inputs, labels, examples, use, window=None, change=None, by_others=False):
    """Read examples one by one, decode them if needed, and pass them to `use`.

    Args:
        inputs: see `training_dataset`.
        labels: see there.
        examples: `tf.data.Dataset` of tuples: the place of an example in the inputs,
            draws for its window or events, and more.
        use: function `(input, label, *more) -> example`.
        window: see `training_dataset`.
        change: see `training_dataset`.
        by_others: bool. Whether other processes run it, without Python.

    Returns:
        `tf.data.Dataset`.
    """
    labels = tf.constant(labels)
    if not isinstance(inputs, EncodedImages):
        read = _reader(inputs, labels, window, change)
        return examples.map(
            lambda place, draws, *more: use(*read(place, draws), *more),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    channels = inputs.shape[-1]

    def decode(encoded, place, draws, *more):
        image = decode_image(encoded, channels, window, draws)
        return use(image, tf.gather(labels, place), *more)

    def next_whole(place, draws):
        image, found = inputs.decode_next(int(place), window, draws)
        return image, np.int64(found)

    def replace(place, draws, *more):
        image, found = tf.numpy_function(
            next_whole, [place, draws], [tf.uint8, tf.int64]
        )
        image, found = tf.ensure_shape(image, inputs.shape[1:]), tf.reshape(found, ())
        return use(image, tf.gather(labels, found), *more)

    if by_others:
        return inputs.each_by_others(examples, decode)
    return inputs.each(examples, decode, replace)


def _reader(inputs, labels, window=None, change=None):
    """Function from the place of an example, and draws, to its input and label.

    Arrays without a window take many places at once.
    """
    if isinstance(inputs, OnDemand):

        def read_changed(place, draws):
            rng = np.random.default_rng(draws.view("uint32").ravel())
            return inputs.changed(place, lambda events: change(events, rng))

        def read_input(place, draws):
            if change is None:
                value = tf.numpy_function(inputs.__getitem__, [place], inputs.dtype)
            else:
                value = tf.numpy_function(read_changed, [place, draws], inputs.dtype)
            return tf.ensure_shape(value, inputs.shape[1:])

    else:
        array = tf.constant(inputs)

        def read_input(place, draws):
            value = tf.gather(array, place)
            return value if window is None else cut_out(value, window, draws)

    return lambda place, draws=None: (
        read_input(place, draws),
        tf.gather(labels, place),
    )
