"""All sources of examples by name, and the slices of their splits."""

import dataclasses
import functools
import inspect

import numpy as np

from keras_qkformer.data.images import folder, tfrecord
from keras_qkformer.data.images.digits import digits
from keras_qkformer.data.recordings import folders, prepared
from keras_qkformer.data.source import (
    REGISTERED,
    OnDemand,
    Source,
    check_name,
    split_name,
)
from keras_qkformer.mistakes import is_mistake
from keras_qkformer.printable import printable
from keras_qkformer.published_data import CIFAR_PIXELS
from keras_qkformer.user_modules import function_of_user, module_of

SOURCES = {
    "digits": digits,
    "recordings": folders.recordings,
    "dvs128_gesture": functools.partial(prepared.prepared, "dvs128_gesture"),
    "cifar10_dvs": functools.partial(prepared.prepared, "cifar10_dvs"),
    "cifar10_dvs_clean": functools.partial(
        prepared.prepared, "cifar10_dvs", clean=True
    ),
    "nmnist": functools.partial(prepared.prepared, "nmnist"),
    "ncaltech101": functools.partial(prepared.prepared, "ncaltech101"),
    "asl_dvs": functools.partial(prepared.prepared, "asl_dvs"),
    "dvs_lip": functools.partial(prepared.prepared, "dvs_lip"),
    "folder": folder.folder,
    "tfrecord": tfrecord.tfrecord,
    "cifar10": functools.partial(tfrecord.tfds, "cifar10", statistics=CIFAR_PIXELS),
    "cifar100": functools.partial(tfrecord.tfds, "cifar100", statistics=CIFAR_PIXELS),
    "imagenet2012": functools.partial(tfrecord.tfds, "imagenet2012"),
}
"""To add a source, add a line: its name, also in `source.NAMES`, and a function that
returns a `Source`.

The keywords of the function are options of the source. `tfds/<name>` is any data set of
images of TFDS, without a line here.
"""
_DERIVED = ("time_steps", "channels", "events_only")
"""Options that no field of `Data` sets: a source need not have them."""


def get_source(name, **options):
    """Make the source of a name.

    Args:
        name: str. A name of `SOURCES`, `tfds/<name>`, a name that `register_source` has
            registered, or `module:function` of a module that the user has named.
        **options: keywords of the source; `None` stands for its default. A source that
            lacks them ignores `time_steps` (frames per example), `channels` (of an
            image) and `events_only` (whether to ignore stored frames).

    Returns:
        `Source`.

    Raises:
        ValueError: if there is no such source, it has no such option, it needs
            `time_steps` and has none, or its function makes no `Source`.
    """
    make, is_ours = _find(name)
    parameters = inspect.signature(make).parameters
    options = {key: value for key, value in options.items() if value is not None}
    for key in set(_DERIVED) - set(parameters):
        options.pop(key, None)
    for key, value in options.items():
        if key not in parameters:
            raise ValueError(
                f"data.{key} is no option of the source {name!r}. "
                f"Received: {key}={value!r}"
            )
    steps = parameters.get("time_steps")
    if steps and steps.default is steps.empty and "time_steps" not in options:
        raise ValueError(
            "A source of event frames must have a model of event frames (static=False) "
            f"or its time_steps. Received: {name!r} without time_steps"
        )
    source = make(**options) if is_ours else _answer(name, make, **options)
    if not isinstance(source, Source):
        raise ValueError(f"{name!r} must make a Source. Received: {source!r}")
    if is_ours:
        return source
    load = functools.partial(_load_of_user, name, source.load)
    return dataclasses.replace(source, load=load)


def _find(name):
    """Return the function that makes a source, and whether it is one of ours."""
    if name in SOURCES:
        return SOURCES[name], True
    check_name(name)
    if name.startswith("tfds/"):
        return functools.partial(tfrecord.tfds, name.removeprefix("tfds/")), True
    if module_of(name):
        return function_of_user(name), False
    return REGISTERED[name], False


def _load_of_user(name, load, split, bounds):
    inputs, labels = _answer(name, load, split, bounds)
    if not isinstance(inputs, OnDemand):
        return inputs, labels
    read = functools.partial(_example_of_user, name, inputs.read)
    finish = inputs.finish and functools.partial(_example_of_user, name, inputs.finish)
    shape, dtype = inputs.shape[1:], inputs.dtype
    return OnDemand(read, inputs.numbers, shape, dtype, finish), labels


def _answer(name, function, *arguments, **options):
    """Call a function of the user's; whatever it raises is no bug of ours."""
    try:
        return function(*arguments, **options)
    except Exception as error:
        if is_mistake(error):  # Ours, as of a slice that is empty, or a missing file.
            raise
        raise _failure(name, error) from error


def _example_of_user(name, function, *arguments):
    """Call a function of the user's `OnDemand`; its last argument is the number."""
    try:
        return function(*arguments)
    except Exception as error:
        called = getattr(function, "__name__", type(function).__name__)
        where = f" in {called} of example {arguments[-1]}"
        raise _failure(name, error, where) from error


def _failure(name, error, where=""):
    reason = printable(f"{type(error).__name__}: {error}")
    return ValueError(
        "A source of your own must work without errors (--debug shows where). "
        f"Received: {name!r}: {reason}{where}"
    )


def load_examples(name, split, **options):
    """Load inputs and labels of a split of a source, given by name.

    Args:
        name: str. Name of a source.
        split: str. See `load_split`.
        **options: see `get_source`.

    Returns:
        `(inputs, labels)`, see `load_split`.

    Example:
    >>> images, labels = load_examples("digits", "train[:10%]")
    >>> images.shape, labels.shape
    ((144, 8, 8, 1), (144,))
    """
    return load_split(get_source(name, **options), split)


def load_split(source, split, on_demand=False):
    """Load inputs and labels of a split of a source.

    Args:
        source: `Source`.
        split: str. Such as `"train"` or `"test"`, perhaps with a slice in per cent or
            in examples: `"train[:90%]"`, `"test[100:200]"`.
        on_demand: bool. Whether even small inputs are read only when needed.

    Returns:
        `(inputs, labels)`. Inputs are uint8 images `(examples, height, width,
        channels)`, or frames `(examples, time, height, width, 2)` of uint16 or, for
        voxel grids, float32: an array or, if they are large, `OnDemand` or
        `EncodedImages`. Labels are int64 `(examples,)`.

    Raises:
        ValueError: if the split is unknown or empty, or the source ignores the slice,
            or its labels don't fit its examples and class names.
    """
    base = split_name(split)
    bracket, rest = split[len(base) : len(base) + 1], split[len(base) + 1 :]
    start, _, stop = rest.removesuffix("]").partition(":")

    asked = []

    def bounds(count):
        asked.append(count)
        first = _position(start, 0, count, split)
        last = _position(stop, count, count, split)
        if not first < last:
            raise ValueError(f"A split must not be empty. Received: {split!r}")
        return first, last

    inputs, labels = source.load(base, bounds)
    if not hasattr(inputs, "shape"):
        raise ValueError(
            "The inputs of a source must be an array, OnDemand or EncodedImages. "
            f"Received: {type(inputs).__name__} for {split!r}"
        )
    labels, classes = np.asarray(labels), len(source.class_names)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise ValueError(
            "The labels of a source must be whole numbers, an array (examples,). "
            f"Received: {labels.dtype} {labels.shape} for {split!r}"
        )
    labels = labels.astype("int64", copy=False)
    if len(labels) != len(inputs) or not (0 <= labels.min() and labels.max() < classes):
        raise ValueError(
            f"A source must have a label from 0 to {classes - 1} for each example. "
            f"Received: {len(labels)} labels from {labels.min()} to {labels.max()} for "
            f"{len(inputs)} examples of {split!r}"
        )
    if bracket and not asked:  # Every slice would be the whole split.
        raise ValueError(
            "load(split, bounds) of a source must call bounds(count), and load that "
            f"range alone. Received: {split!r} without a call"
        )
    if on_demand or isinstance(inputs, np.ndarray):
        return inputs, labels
    return inputs.in_memory_if_small(labels)


def _position(text, default, count, split):
    if not text:
        return default
    try:
        if text.endswith("%"):
            position = round(count * float(text[:-1]) / 100)
        else:
            position = int(text)
    except (ValueError, OverflowError):
        position = -1
    if not 0 <= position <= count:
        raise ValueError(
            f"The ends of a slice must be whole numbers from 0 to {count}, or per cent "
            f"from 0% to 100%. Received: {split!r}"
        )
    return position
