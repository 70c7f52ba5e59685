"""Checks of a served model's answers, from this process or from a server."""

import dataclasses
import time
from collections.abc import Callable, Mapping

import numpy as np

from keras_qkformer.serving.wire import pad_events

BATCHES = (1, 2, 3, 17)
REFUSALS = (ValueError, LookupError, TypeError)
"""What comes of a refused item, or of an answer or metadata of another form."""
# Largest difference of logits, relative to the largest logit or to 1, and smallest
# distance of a potential from the threshold at which rounding can't flip a spike,
# relative to the largest potential of the layer or to 1.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Subject:
    """A served model to check.

    Attributes:
        ask: function `ask(signature, inputs) -> outputs`; inputs and outputs are dicts
            from names to arrays. It raises `ValueError` if the model refuses.
        metadata: dict. The bundle's `metadata.json`.
        examples: dict of arrays: `images`, the trained model's `logits`, and `close`:
            whether rounding may flip a spike of an example. Bundles of before have no
            `close`.
        seconds: float > 0. How long to measure each signature and batch size.
    """

    ask: Callable
    metadata: Mapping
    examples: Mapping
    seconds: float

    @property
    def bound(self):
        return TOLERANCE * max(1.0, float(np.abs(self.examples["logits"]).max()))

    @property
    def close(self):
        return self.examples.get("close", np.zeros(len(self.examples["images"]), bool))


def check_answers(subject):
    """Run all checks that need only answers, locally or from a server.

    Args:
        subject: `Subject`.

    Yields:
        Pairs `(passed, text)`, one per check.
    """
    signatures = subject.metadata["signatures"]
    largest = subject.metadata["batch_sizes"][-1]
    for name in signatures:
        for batch in sorted({*BATCHES, largest}):
            yield _outcome(_same_answers, subject, name, batch)
        yield _outcome(_alone_and_together, subject, name)
        if name.endswith("_lenient"):
            yield _outcome(_answers_the_others, subject, name)
        elif _spoiler(subject, name) is not None:
            yield _outcome(_refuses, subject, name)
    for name in signatures:
        for batch in sorted({1, largest}):
            yield _outcome(_speed, subject, name, batch)


def _outcome(check, subject, name, *arguments):
    """Run a check of a signature; a refused item or an odd answer fails it."""
    try:
        passed, text = check(subject, name, *arguments)
    except REFUSALS as error:
        passed, text = False, f"refused: {one_line(error)}"
    batch = "".join(f", batch {argument}" for argument in arguments)
    return passed, f"{name}{batch}: {text}"


def _same_answers(subject, name, batch):
    """Compare logits and the most probable class with the trained model."""
    difference, same = _differences(subject, name, np.arange(batch))
    text = (
        f"largest difference of logits {difference.max():.1e}, "
        f"{np.sum(same)} of {batch} with the same first class"
    )
    if subject.metadata["weights"] != "float32":
        return True, f"{text} ({subject.metadata['weights']} weights)"
    items, count = np.arange(batch), len(subject.examples["images"])
    if batch < count and (difference > subject.bound).any():
        # What one batch can't tell, the others do: rounding flips few spikes.
        starts = range(0, count, batch)
        rest = [_differences(subject, name, start + items) for start in starts]
        difference, same = (np.concatenate(part) for part in zip(*rest, strict=True))
        items = np.arange(len(difference))
    equal = (difference <= subject.bound) & same
    why = unexplained(difference, equal, _taken(subject.close, items))
    return not why, f"{text}{_flipped(equal)}{why and f': {why}'}"


def _differences(subject, name, items):
    """Return the largest difference of a logit, and whether the first class agrees."""
    logits, class_ids = _logits(subject, name, items)
    expected = _taken(subject.examples["logits"], items)
    difference = np.abs(logits - expected).max(-1)
    return difference, class_ids[:, 0] == expected.argmax(-1)


def _alone_and_together(subject, name):
    """Compare the answers to items alone, in a batch, and in the reversed batch."""
    items = np.arange(len(subject.examples["images"]))
    together, _ = _logits(subject, name, items)
    turned, _ = _logits(subject, name, items[::-1])
    alone = np.concatenate([_logits(subject, name, items[i : i + 1])[0] for i in items])
    difference = np.abs([together - alone, together - turned[::-1]]).max((0, -1))
    equal = difference <= subject.bound
    why = unexplained(difference, equal, subject.close)
    return not why, (
        f"alone, among {len(items)}, and in reverse order: largest difference "
        f"{difference.max():.1e}{_flipped(equal)}{why and f': {why}'}"
    )


def unexplained(difference, equal, close):
    """Say which differences of logits no flipped spike explains.

    Where a potential lies within rounding of the threshold, one runtime fires and the
    other does not, which changes logits by far more than rounding.

    Args:
        difference: float array `(batch,)`: largest difference of a logit.
        equal: bool array `(batch,)`: whether it is within the bound.
        close: bool array `(batch,)`: whether rounding may flip a spike.

    Returns:
        str. Empty unless an example without such a spike differs, or more than half of
        several examples do: rounding flips few spikes, not those of most examples.
    """
    wrong = ~equal & ~close
    if wrong.any():
        return (
            f"{difference[wrong].max():.1e} in example {np.argmax(wrong)}, where no "
            "potential lies at the threshold"
        )
    if len(equal) > 1 and np.mean(equal) < 0.5:
        return (
            f"{difference.max():.1e}, and {np.sum(~equal)} of {len(equal)} examples "
            "differ, which is more than rounding does"
        )
    return ""


def _flipped(equal):
    count = np.sum(~equal)
    return f", {count} of {len(equal)} differ by more than rounding" if count else ""


def _spoiler(subject, name):
    """Return a function that spoils an item, or `None`: uint8 inputs can't be bad."""
    first, entry = next(iter(subject.metadata["signatures"][name]["inputs"].items()))
    return None if entry["dtype"] == "uint8" else _SPOIL.get(first)


def _refuses(subject, name):
    """Check that a request with a bad item is refused and names its index."""
    inputs = _spoiler(subject, name)(inputs_of(subject, name, np.arange(3)), 1)
    try:
        subject.ask(name, inputs)
    except ValueError as error:
        return "[1] is" in str(error), f"a bad item is refused: {one_line(error)}"
    return False, "a bad item was answered"


def _answers_the_others(subject, name):
    """Check that a lenient signature reports a bad item and answers its neighbours."""
    inputs = inputs_of(subject, name, np.arange(3))
    good = subject.ask(name, inputs)
    mixed = subject.ask(name, _spoiler(subject, name)(inputs, 1))
    status = [_text(text) for text in mixed["status"]]
    passed = (
        [bool(text) for text in status] == [False, True, False]
        and list(mixed["class_ids"][1]) == [-1] * mixed["class_ids"].shape[1]
        and np.abs((mixed["logits"] - good["logits"])[::2]).max() <= subject.bound
        and not mixed["logits"][1].any()
    )
    return (
        passed,
        f"{name}: of a bad item it says {status[1]!r}, and answers the others",
    )


def _speed(subject, name, batch):
    """Measure latency and throughput."""
    inputs = inputs_of(subject, name, np.arange(batch))
    subject.ask(name, inputs)
    times = []
    end = time.perf_counter() + subject.seconds
    while not times or (time.perf_counter() < end and len(times) < 10_000):
        start = time.perf_counter()
        subject.ask(name, inputs)
        times.append(1e3 * (time.perf_counter() - start))
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    return True, (
        f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, "
        f"{1e3 * batch / np.mean(times):.1f} items/s ({len(times)} requests)"
    )


def _logits(subject, name, items):
    """Return the logits and class ids of the examples with these indices."""
    if name == "stream":
        return _stream_logits(subject, items)
    outputs = subject.ask(name, inputs_of(subject, name, items))
    return outputs["logits"], outputs["class_ids"]


def _stream_logits(subject, items):
    frames = _taken(subject.examples["images"], items).astype("float32")
    state = _rest(subject, len(items))
    for frame in np.swapaxes(frames, 0, 1):
        outputs = subject.ask("stream", {"frame": frame, **state})
        state = {name: outputs[name] for name in state}
    return outputs["logits"], outputs["class_ids"]


def _rest(subject, batch):
    """Return the state before the first frame."""
    return {
        name: np.zeros([batch, *entry["shape"][1:]], entry["dtype"])
        for name, entry in subject.metadata["signatures"]["stream"]["inputs"].items()
        if name != "frame"
    }


def inputs_of(subject, name, items):
    """Return the inputs of a signature for a batch of examples.

    Args:
        subject: `Subject`.
        name: str. The signature.
        items: int array `(batch,)`. Indices of examples, taken modulo their number.

    Returns:
        Dict from names to arrays, batch first. For `stream`: the first frame and the
        state before it.
    """
    images = _taken(subject.examples["images"], items)
    if name == "stream":
        return {**_rest(subject, len(items)), "frame": images[:, 0].astype("float32")}
    (first, entry), *_ = subject.metadata["signatures"][name]["inputs"].items()
    if first == "image_bytes":
        return {first: np.array([_png(image) for image in images], object)}
    if first in ("images", "frames"):
        return {first: images.astype(entry["dtype"])}
    frames = subject.metadata["frames"]
    return pad_events([frames_to_events(x, frames["frames_by"]) for x in images])


def _taken(array, items):
    return np.take(array, items, axis=0, mode="wrap")


def frames_to_events(frames, frames_by):
    """Return events that `events_to_frames` turns into these frames.

    Args:
        frames: int array `(time, height, width, 2)` that `events_to_frames` made.
        frames_by: str. How to split events into frames: `"number"` or `"time"`.

    Returns:
        Dict of int arrays `(events,)`: `t` in microseconds, `x`, `y` and `p`.
    """
    time_steps, *_ = frames.shape
    index = np.argwhere(frames)
    index = np.repeat(index, frames[tuple(index.T)].astype(int), axis=0)
    step, y, x, p = index.T
    t = 1000 * step
    if frames_by == "time" and frames[0].any():
        t[-1] = 1000 * time_steps  # Makes each frame 1000 microseconds long.
    elif frames_by == "time":
        # The first event is in the first frame, unless there were fewer microseconds
        # than frames: all events are in the last one then.
        t = 0 * step
    return {"t": t, "x": x, "y": y, "p": p}


def _with_text(inputs, item):
    encoded = inputs["image_bytes"].copy()
    encoded[item] = b"This is no image."
    return {"image_bytes": encoded}


def _with_nan(inputs, item):
    ((name, values),) = inputs.items()
    values = values.copy()
    values[item, 0, 0] = np.nan
    return {name: values}


def _outside(inputs, item):
    x = inputs["x"].copy()
    x[item, 0] = 30_000
    return {**inputs, "x": x}


# Functions that spoil an item, by the name of a signature's first input.
_SPOIL = {
    "image_bytes": _with_text,
    "images": _with_nan,
    "frames": _with_nan,
    "t": _outside,
}


def _png(image):
    # Imported here: checking a model of event frames on a server needs no TensorFlow.
    import tensorflow as tf

    return tf.io.encode_png(image.astype("uint8")).numpy()


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


def one_line(error):
    """Return the first 200 characters of an error's text, in one line.

    Args:
        error: exception.
    """
    return " ".join(str(error).split())[:200]
