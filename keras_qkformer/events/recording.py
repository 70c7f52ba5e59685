"""Recordings of event cameras, to and from arrays of `EVENT_DTYPE`.

| format    | extension      | cameras and data sets                              |
|-----------|----------------|----------------------------------------------------|
| AEDAT 2.0 | `.aedat`       | jAER with a DVS128: CIFAR10-DVS                    |
| AEDAT 3.1 | `.aedat`       | cAER: DVS128 Gesture                               |
| AEDAT 4   | `.aedat4`      | DV; needs `pip install 'keras_qkformer[events]'`   |
| N-MNIST   | `.bin`, `.bs2` | N-MNIST, N-Caltech101                              |

`read_recording` recognises the format and returns all events of a path, bytes or a
binary file object; the `read_...` function of a format expects that format.
`iter_recording` yields the events in chunks, which bounds memory whatever the size of
the recording. All treat damage alike:

- `strict=True`: a file that is truncated, empty, of another format or corrupted raises
  `DamagedRecordingError` with the byte offset and what was expected there;
- `strict=False`: every whole event before the damage is kept, and a
  `DamagedRecordingWarning` says how many bytes were dropped.

Time that runs backwards counts as damage, unless `ordered=False`, and so does a leap of
the clock by more than `max_gap_us` microseconds. Damage that turns one possible event
into another can't be detected in any of these formats.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

from keras_qkformer.events.aedat2 import check_orientation, decode_aedat2
from keras_qkformer.events.aedat4 import decode_aedat4
from keras_qkformer.events.aedat31 import decode_aedat31
from keras_qkformer.events.byte_stream import (
    CHUNK_EVENTS,
    MAX_GAP_US,
    DamagedRecordingError,
    iterate,
    read_events,
)
from keras_qkformer.events.nmnist import decode_nmnist


class Format(NamedTuple):
    """A format, how to recognise it and how to decode it.

    Attributes:
        name: str.
        magic: bytes with which a file begins, or `None` to recognise the format by the
            extension alone.
        extensions: tuple of str. Extensions of files of this format.
        decode: function `(stream, clock, chunk_events, **options) -> chunks`, see
            `byte_stream.iterate`.
        options: tuple of str. Options of `read_recording` that `decode` takes.
    """

    name: str
    magic: bytes | None
    extensions: tuple[str, ...]
    decode: Callable
    options: tuple[str, ...] = ()


FORMATS = (
    Format("AEDAT 2.0", b"#!AER-DAT2", (".aedat",), decode_aedat2, ("orientation",)),
    Format("AEDAT 3.1", b"#!AER-DAT3", (".aedat",), decode_aedat31),
    Format("AEDAT 4", b"#!AER-DAT4", (".aedat4",), decode_aedat4),
    Format("N-MNIST", None, (".bin", ".bs2"), decode_nmnist, ("sensor_size",)),
)
EXTENSIONS = tuple(dict.fromkeys(e for form in FORMATS for e in form.extensions))
"""Extensions of files that count as recordings."""


def read_recording(
    source,
    *,
    name=None,
    orientation="jaer",
    sensor_size=(34, 34),
    strict=True,
    ordered=True,
    max_gap_us=MAX_GAP_US,
):
    """Read all events of a recording of any known format.

    The first line of an AEDAT file states its version. An N-MNIST file has no header
    and is recognised by its extension, `.bin` or `.bs2`.

    Args:
        source: path, bytes or binary file object.
        name: str or `None`. File name of bytes or of a file object; `None` takes that
            of the path.
        orientation: str. See `read_aedat2`; other formats ignore it.
        sensor_size: (height, width) in pixels. See `read_nmnist`; other formats ignore
            it.
        strict: bool. Whether damage raises; otherwise the file is dropped from there
            on, with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.
        max_gap_us: int >= 0 or `None`. Longest time from one event to the next, in
            microseconds, an hour by default; more counts as damage. `None` for no
            bound.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the file is damaged or of no known format.
        ValueError: if `orientation` is unknown.

    Example:
    >>> import io
    >>> from keras_qkformer.events import EVENT_DTYPE
    >>> from keras_qkformer.events.aedat31 import write_aedat31
    >>> file = io.BytesIO()
    >>> write_aedat31(file, np.array([(10, 3, 4, True)], EVENT_DTYPE))
    >>> read_recording(file.getvalue()).tolist()
    [(10, 3, 4, True)]
    """
    decode = _decoder(source, name, orientation=orientation, sensor_size=sensor_size)
    return read_events(decode, source, strict, ordered, max_gap_us)


def iter_recording(
    source,
    *,
    name=None,
    orientation="jaer",
    sensor_size=(34, 34),
    strict=True,
    ordered=True,
    max_gap_us=MAX_GAP_US,
    chunk_events=CHUNK_EVENTS,
):
    """Read a recording of any known format in chunks.

    Args:
        source: see `read_recording`.
        name: see `read_recording`.
        orientation: see `read_recording`.
        sensor_size: see `read_recording`.
        strict: see `read_recording`.
        ordered: see `read_recording`.
        max_gap_us: see `read_recording`.
        chunk_events: int > 0. Maximum number of events in a chunk.

    Returns:
        Iterator over arrays `(events,)` of `EVENT_DTYPE`, none of them empty. It raises
        the errors of `read_recording`, damage after the events before it.

    Example:
    >>> import io
    >>> from keras_qkformer.events import EVENT_DTYPE
    >>> from keras_qkformer.events.aedat31 import write_aedat31
    >>> file = io.BytesIO()
    >>> write_aedat31(file, np.array([(10, 3, 4, True)] * 3, EVENT_DTYPE))
    >>> [len(chunk) for chunk in iter_recording(file.getvalue(), chunk_events=2)]
    [2, 1]
    """
    decode = _decoder(source, name, orientation=orientation, sensor_size=sensor_size)
    return iterate(decode, source, strict, ordered, max_gap_us, chunk_events)


def _decoder(source, name, **options):
    """Return the `decode` of `byte_stream.iterate` for a recording of any format."""
    check_orientation(options["orientation"])
    if name is None and isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)

    def decode(stream, clock, chunk_events):
        start = stream.peek(16)
        by_magic = [f for f in FORMATS if f.magic and start.startswith(f.magic)]
        by_name = [
            f for f in FORMATS if not f.magic and (name or "").endswith(f.extensions)
        ]
        for form in [*by_magic, *by_name]:
            own = {option: options[option] for option in form.options}
            return form.decode(stream, clock, chunk_events, **own)
        rules = ", ".join(
            f"{form.name} ("
            f"{' or '.join(form.extensions) if form.magic is None else form.magic!r})"
            for form in FORMATS
        )
        raise DamagedRecordingError(
            0,
            "expected '#!AER-DAT' and a version, or the first bytes or the file name "
            f"of another format; known are {rules}. Received: "
            f"{start or 'an empty file'}.",
        )

    return decode
