"""Examples as tf.data pipelines, in the same order on every run."""

import dataclasses
import inspect

import numpy as np
import tensorflow as tf

from keras_qkformer.data.images.encoded_images import EncodedImages
from keras_qkformer.data.images.image_decoding import DRAWS, cut_out, decode_image
from keras_qkformer.data.source import OnDemand
from keras_qkformer.data.tracing import without_autograph


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
    """Make batches of augmented examples in an order that only seed and epoch decide.

    Training that is resumed at an epoch sees the same batches as training that was
    never interrupted. An image that can't be decoded is replaced by the next one in the
    split, unless `splittable`.

    Args:
        inputs: array, `OnDemand` or `EncodedImages`
            `(examples, [time,] height, width, channels)`.
        labels: int array `(examples,)`.
        transform: function from one input or a batch of inputs to model input, such as
            `Preprocessing`.
        batch_size: int > 0. Each epoch leaves out the examples that fill no whole
            batch.
        seed: int. Seed of the order and of everything drawn at random.
        first_epoch: int. First epoch, from 0.
        epochs: int. Exclusive end epoch.
        steps: int or `None`. Maximum number of batches per epoch.
        augment: function `(inputs, labels, seed) -> (inputs, labels)` that augments a
            transformed batch, or `None`. `seed` is an int32 tensor of two numbers,
            different for every batch; returned labels may be probabilities
            `(batch, classes)`. If the function has an argument `epoch`, it receives the
            number of the epoch. AutoGraph does not convert the function: branch on
            tensors by `tf.cond`, or pass a `tf.function`.
        window: function that chooses the part of an image to decode, see
            `image_decoding.decode_image`, or `None`. Its `draws` are numbers in [0, 1),
            different for every image.
        change: function `(events, rng) -> events` for the events of an `OnDemand`
            input, or `None`. `rng` is a `numpy.random.Generator`, different for every
            example and epoch.
        shard: `(index, count)`: makes part `index` of the `count` parts of every batch,
            and reads only that. `augment` sees only this part and draws differently for
            each.
        splittable: bool. Whether workers of a tf.data service may share the batches, in
            any order. The dataset is then endless and runs no Python: inputs can't be
            `OnDemand`, or images in a zip. An image that can't be decoded is left out,
            and later examples move up, across epochs too.

    Returns:
        `tf.data.Dataset` of `(model input, labels)`: all epochs, one after the other.

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
            "Batches that workers make must run no Python: use images, or recordings "
            "that fit into memory. "
            f"Received: {type(inputs).__name__} of {inputs.shape}"
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
        # Gathering whole batches is far faster than one example at a time.
        read = _reader(inputs, labels)

        def read_batch(batch):
            numbers = order.numbers(batch)
            return make_batch(*read(order.places(numbers)), numbers)

        batches = batches.map(without_autograph(read_batch), **parallel)
    else:
        examples = batches.map(without_autograph(place_and_draw)).unbatch()
        batches = (
            read_each(
                inputs, labels, examples, one, window, change, by_others=splittable
            )
            .batch(order.size, drop_remainder=True)
            .map(without_autograph(make_batch), **parallel)
        )
    return batches.prefetch(tf.data.AUTOTUNE)


@dataclasses.dataclass(frozen=True)
class _Order:
    """Chooses the examples of each batch and draws random numbers for them.

    Both follow from the number of the batch alone, counted over all epochs: a worker
    can make any batch without shuffling an epoch or making the batches before it.

    Attributes:
        count: int. Number of examples in the split.
        batch_size: int. Examples per batch, over all shards.
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
        """Examples per batch in this shard."""
        return self.batch_size // self.shard[1]

    def numbers(self, batch):
        """Number the examples of a batch, `(examples,)`, counted over all epochs."""
        part, parts = self.shard
        first = (batch * parts + part) * self.size
        return first + tf.range(self.size, dtype=tf.int64)

    def _epoch_and_rest(self, numbers):
        per_epoch = self.steps * self.batch_size
        return numbers[0] // per_epoch, numbers % per_epoch

    def places(self, numbers):
        """Return the places `(examples,)` in the split of numbered examples."""
        epoch, rest = self._epoch_and_rest(numbers)
        key = tf.random.stateless_uniform(
            [3], tf.stack([self.seed, epoch]), None, None, tf.int64
        )
        # With the default of 4 rounds, some examples become neighbours too often.
        return tf.raw_ops.RandomIndexShuffle(
            index=rest, seed=key, max_index=self.count - 1, rounds=8
        )

    def draws(self, numbers):
        """Draw `(examples, *DRAWS)` numbers in [0, 1), for windows and for events."""
        epoch, rest = self._epoch_and_rest(numbers)
        # Negative, unlike in the seeds of augmentation, so that no two seeds are equal.
        seeds = tf.stack([self.seed + epoch, -1 - rest[0]])
        return tf.random.stateless_uniform([self.size, *DRAWS], seeds)

    def epoch_and_seed(self, numbers):
        """Return the epoch of a batch and the seed of its augmentation."""
        epoch, rest = self._epoch_and_rest(numbers)
        return epoch, tf.cast(tf.stack([self.seed + epoch, rest[0]]), tf.int32)


def _vary(inputs, window):
    """Return whether images may differ in size until they are transformed."""
    return window is not None or isinstance(inputs, EncodedImages)


def evaluation_dataset(
    inputs, labels, *, transform, batch_size, multiple_of=1, shard=(0, 1)
):
    """Make batches of every example once, in order; the last may be smaller.

    To make every batch a multiple of `multiple_of`, the last example is repeated with a
    weight of 0. Keras divides the loss by the number of all rows, so the other examples
    get a weight above 1, which makes the loss their mean again.

    Args:
        inputs: array, `OnDemand` or `EncodedImages` without damaged images,
            `(examples, [time,] height, width, channels)`.
        labels: int array `(examples,)`.
        transform: function from one input or a batch of inputs to model input, such as
            `Preprocessing`.
        batch_size: int > 0.
        multiple_of: int > 0. Divides `batch_size` and, after padding, the size of every
            batch.
        shard: `(index, count)`: makes part `index` of the `count` parts of every batch,
            and reads only that; `count` divides `multiple_of`.

    Returns:
        `tf.data.Dataset` of `(model input, labels)`, or of
        `(model input, labels, weights)` with weights `(batch,)` if an example is
        repeated.
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
    # Keras asks for the number of batches, and `interleave` loses that of examples.
    dataset = read_each(inputs, labels, examples, one).apply(
        tf.data.experimental.assert_cardinality(len(places))
    )
    dataset = dataset.batch(batch_size)
    if not vary:
        dataset = dataset.map(
            without_autograph(lambda batch, labels: (transform(batch), labels)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    if padded != count:
        weights = np.where(numbers < count, padded / count, 0.0)
        weights = tf.data.Dataset.from_tensor_slices(weights.astype("float32"))
        dataset = tf.data.Dataset.zip(dataset, weights.batch(batch_size)).map(
            without_autograph(lambda pair, weights: (*pair, weights))
        )
    return dataset.prefetch(tf.data.AUTOTUNE)


def read_each(inputs, labels, examples, use, window=None, change=None, by_others=False):
    """Read examples one by one, decode them if needed, and pass them to `use`.

    Args:
        inputs: see `training_dataset`.
        labels: see `training_dataset`.
        examples: `tf.data.Dataset` of `(place, draws, *more)`: the place of an example
            in the inputs, the draws for its window or events, and more for `use`.
        use: function `(input, label, *more) -> example`.
        window: see `training_dataset`.
        change: see `training_dataset`.
        by_others: bool. Whether other processes may read the examples, without Python.

    Returns:
        `tf.data.Dataset` of what `use` returns.
    """
    labels = tf.constant(labels)
    if not isinstance(inputs, EncodedImages):
        read = _reader(inputs, labels, window, change)
        return examples.map(
            without_autograph(
                lambda place, draws, *more: use(*read(place, draws), *more)
            ),
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
    """Return a function `(place, draws) -> (input, label)` that reads an example.

    For arrays without a window, it takes a tensor of places, too.
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
