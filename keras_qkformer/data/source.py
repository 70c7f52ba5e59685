"""A source of labelled examples, whatever stores them, and the names of sources."""

import dataclasses
from collections.abc import Callable

import numpy as np

from keras_qkformer.mistakes import did_you_mean, is_mistake
from keras_qkformer.printable import printable
from keras_qkformer.user_modules import module_of

IN_MEMORY_BYTES = 1 << 30
"""A split with larger inputs is read example by example, not kept in memory."""


NAMES = (
    *("digits", "recordings", "dvs128_gesture", "cifar10_dvs", "cifar10_dvs_clean"),
    *("nmnist", "ncaltech101", "asl_dvs", "dvs_lip"),
    *("folder", "tfrecord", "cifar10", "cifar100", "imagenet2012"),
)
"""Those of this package, known without TensorFlow: the keys of `sources.SOURCES`."""
SPLITS = {
    **dict.fromkeys(("digits", "cifar10", "cifar100"), ("train", "test")),
    **dict.fromkeys(("dvs128_gesture", "cifar10_dvs"), ("train", "test")),
    "cifar10_dvs_clean": ("train", "test"),
    "imagenet2012": ("train", "validation", "test"),
}
"""Splits of the sources that have the same ones wherever their data are."""
REGISTERED = {}
"""The functions that `register_source` has named."""


def register_source(name):
    """Register a source of your own under a name, as a decorator.

    A recipe then has `Data(name=...)`. The module that registers it is named with
    `--import`, or it is the recipe file itself.

    Args:
        name: str. Name by which recipes refer to it. The sources of this package keep
            theirs; another one of the same name is replaced.

    Returns:
        Decorator of a function that returns a `Source`. Its keywords are the fields of
        `Data` that it takes, such as `data_dir`; and, if it has them, `channels` of an
        image, `time_steps`, the frames of an example, and `events_only`, whether events
        will be changed before frames are made.

    Raises:
        ValueError: if the name is no text.

    Example:
    >>> @register_source("noise")
    ... def noise():
    ...     def load(split, bounds):
    ...         start, stop = bounds(100)
    ...         images = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1))
    ...         return images[start:stop].astype("uint8"), np.arange(start, stop) % 2
    ...     names = ("even", "odd")
    ...     return Source(class_names=names, mean=(0.5,), std=(0.3,), load=load)
    >>> REGISTERED.pop("noise") is noise
    True
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"The name of a source must be a text. Received: {name!r}")

    def register(make):
        REGISTERED[name] = make
        return make

    return register


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A set of labelled images or recordings.

    To train on data of your own, write a function that returns a `Source`, see
    `register_source` and docs/data.md.

    Attributes:
        class_names: tuple of str, all different, in the order of the labels.
        mean: floats, one per channel. Mean of the scaled values.
        std: floats, one per channel. Standard deviation of the scaled values.
        max_value: float. The value that is scaled to 1: 255 for pixels, 1 for counts of
            events.
        orientation: str. Orientation in which AEDAT 2.0 recordings are read, see
            `aedat2.read_aedat2`.
        sensor_size: (height, width) in pixels of the sensor of all recordings, or
            `None`: then recipes may name it.
        load: `load(split, bounds) -> (inputs, labels)`. `split` is a name without
            slice, such as `"test"`. `load` counts the images or recordings of the split
            and calls `bounds(count)`, which returns the range `(start, stop)` to load:
            `bounds(200)` is `(0, 180)` for `train[:90%]` and `(0, 200)` for `train`. So
            the order of a split must be the same in every call, and mixed, or a slice
            lacks classes. Inputs are an array, `OnDemand` or `EncodedImages`
            `(examples, [time,] height, width, channels)`: pixels, or numbers of events
            per pixel, OFF and ON. A recording may hold several examples. Labels are
            int64 `(examples,)` from 0. An unknown split raises `ValueError`.
        damaged: dict `{name: reason}` of the images that could not be decoded so far.

    Raises:
        ValueError: if class names are not different texts, or the orientation is
            unknown: a training would end with files that can't be read.
    """

    class_names: tuple
    mean: tuple
    std: tuple
    max_value: float = 255.0
    orientation: str = "jaer"
    sensor_size: tuple | None = None
    load: Callable
    damaged: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        names = list(self.class_names)
        are_texts = all(isinstance(name, str) for name in names)
        if not are_texts or not len({*names}) == len(names) > 0:
            raise ValueError(
                "The class_names of a source must be different texts. "
                f"Received: {printable(repr(names))}"
            )
        # Importing it takes as long as all else here, and parsing a command needs none.
        from keras_qkformer.events.aedat2 import check_orientation

        check_orientation(self.orientation)


def check_name(name):
    """Raise `ValueError` unless a recipe may name such a source.

    Args:
        name: str. The function of `module:function` need not exist.
    """
    if name.startswith("tfds/") or module_of(name):
        return
    names = dict.fromkeys((*NAMES, *REGISTERED))
    if name not in names:
        raise ValueError(
            f"data.name must be one of {sorted(names)}, tfds/NAME, or a source of "
            "yours: MODULE:FUNCTION, or a name that a module (--import MODULE) or the "
            "recipe file (--recipe FILE) registers. "
            f"Received: {name!r}{did_you_mean(name, names)}"
        )


def check_splits(data, asked=None):
    """Raise `ValueError` if a source is known to lack a split.

    Args:
        data: `settings.Data`, whose splits are checked.
        asked: str, the option `--split`, which is checked too, or `None`.
    """
    fields = ("train", "validation", "test")
    splits = {f"data.{field}": getattr(data, field) for field in fields}
    if asked is not None:
        splits["--split"] = asked
    known = SPLITS.get(data.name)
    for field, split in splits.items():
        name = split_name(split)
        if known and name not in known:
            raise ValueError(
                f"{field} must be one of {sorted(known)}, perhaps with a slice such as "
                f"train[:90%]. Received: {split!r}{did_you_mean(name, known)}"
            )


def split_name(split):
    """Return the name of a split without its slice.

    Args:
        split: str. Such as `"train"` or `"test[100:200]"`.

    Raises:
        ValueError: if a slice has another form.
    """
    name, bracket, rest = split.partition("[")
    if bracket and not (":" in rest and rest[-1] == "]"):
        raise ValueError(
            "A slice of a split must be like train[:90%] or test[100:200]. "
            f"Received: {split!r}"
        )
    return name


class ExampleError(ValueError):
    """An example that can't be read; TensorFlow's error about it has this name."""


class OnDemand:
    """Inputs that are read when needed, with the interface of an array.

    Args:
        read: function `number -> input` or, with `finish`, `number -> events`: an array
            of `events.event_array.EVENT_DTYPE`, with the fields `t` in microseconds,
            `x` to the right, `y` down, and `p`, true for ON. `make_events` makes one.
        numbers: int array `(examples,)`. Numbers of the examples, as `read` takes them.
        shape: tuple of int. Shape of one input.
        dtype: str or dtype. Type of one input.
        finish: function `(events, number) -> input`, or `None`. With it, training can
            change events before frames are made of them.

    Example:
    >>> inputs = OnDemand(lambda number: np.full(2, number), np.arange(9), (2,), "u1")
    >>> inputs[4:].shape, inputs[4:][1].tolist()
    ((5, 2), [5, 5])
    """

    def __init__(self, read, numbers, shape, dtype, finish=None):
        self.read = read
        self.finish = finish
        self.numbers = np.asarray(numbers)
        self.shape = (len(self.numbers), *shape)
        self.dtype = np.dtype(dtype)

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, place):
        if isinstance(place, (slice, np.ndarray)):
            chosen = self.numbers[place]
            return OnDemand(self.read, chosen, self.shape[1:], self.dtype, self.finish)
        return self.changed(place, lambda events: events)

    def changed(self, place, change):
        """Read the input at a place and change its events before frames are made.

        Args:
            place: int. Index of the input.
            change: function `events -> events`.

        Returns:
            Array of the shape of one input.

        Raises:
            ExampleError: if the input can't be read, or has another shape.
        """
        number = int(self.numbers[place])
        try:
            value = change(self.read(number))
            if self.finish is not None:
                value = self.finish(value, number)
        except Exception as error:
            if not is_mistake(error):
                raise
            raise ExampleError(str(error)) from error
        value = np.asarray(value)
        if value.shape != self.shape[1:]:
            raise ExampleError(
                f"Inputs must have the shape {self.shape[1:]}. "
                f"Received: {value.shape} of example {number}"
            )
        return value.astype(self.dtype, copy=False)

    def __array__(self, dtype=None, copy=None):
        array = np.empty(self.shape, dtype or self.dtype)
        for place in range(len(self)):
            array[place] = self[place]
        return array

    def in_memory_if_small(self, labels):
        """Return inputs and labels; inputs of at most `IN_MEMORY_BYTES` as an array.

        Args:
            labels: int array `(examples,)`.
        """
        size = int(np.prod(self.shape, dtype="int64")) * self.dtype.itemsize
        return (np.asarray(self) if size <= IN_MEMORY_BYTES else self), labels


def check_split(split, splits, found=""):
    """Raise `ValueError` unless there is such a split.

    Args:
        split: str. Name of a split, without slice.
        splits: collection of the names of all splits.
        found: str. What to say of them, after the received value.
    """
    if split not in splits:
        raise ValueError(
            f"A split must be one of {sorted(splits)}, perhaps with a slice such as "
            f"train[:90%]. Received: {split!r}{found}"
        )
