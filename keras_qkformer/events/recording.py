"""Recordings of event cameras, to and from arrays of `EVENT_DTYPE`.

| format    | extension      | cameras and data sets                              |
|-----------|----------------|----------------------------------------------------|
| AEDAT 2.0 | `.aedat`       | jAER with a DVS128: CIFAR10-DVS                    |
| AEDAT 3.1 | `.aedat`       | cAER: DVS128 Gesture                               |
| AEDAT 4   | `.aedat4`      | DV; to read: `pip install 'keras_qkformer[events]'`|
| N-MNIST   | `.bin`, `.bs2` | N-MNIST, N-Caltech101                              |

`read_recording` recognises the format and returns all events of a path, bytes or a
binary file object; the `read_...` function of a format expects that format.
`iter_recording` yields the events in chunks, so that memory stays bounded whatever the
size of the recording. All treat damage alike:

- `strict=True`: a file that is truncated, empty, of another format or corrupted raises
  `DamagedRecordingError` with the byte offset and what was expected there;
- `strict=False`: every whole event before the damage is kept, and a
  `DamagedRecordingWarning` says how many bytes were dropped.

Time that runs backwards counts as damage, unless `ordered=False`. What no format lets
anybody see is damage that turns one possible event into another.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

from keras_qkformer.events.aedat2 import check_orientation, decode_aedat2
from keras_qkformer.events.aedat4 import decode_aedat4
from keras_qkformer.events.aedat31 import decode_aedat31
from keras_qkformer.events.byte_stream import (
    CHUNK_EVENTS,
    DamagedRecordingError,
    iterate,
    read_events,
)
from keras_qkformer.events.nmnist import decode_nmnist


class Format(NamedTuple):
    """How one format is recognised and decoded.

    Attributes:
        name: str.
        magic: first bytes of a file, or `None` if it is known by its extension alone.
        extensions: of its files.
        decode: function `(stream, clock, chunk_events, **options) -> chunks`, see
            `byte_stream.iterate`.
        options: names of the options of `read_recording` that it takes.
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
"""Extensions of files that are taken for recordings."""


def read_recording(
    source,
    *,
    name=None,
    orientation="jaer",
    sensor_size=(34, 34),
    strict=True,
    ordered=True,
):
    """All events of a recording whose format is found out.

    AEDAT files say their version in the first line. N-MNIST files say nothing: they are
    known by the extension `.bin` or `.bs2`.

    Args:
        source: path, bytes or binary file object.
        name: str, or `None` for that of the path. File name, if the source has none.
        orientation: str. See `read_aedat2`; other formats are upright.
        sensor_size: (height, width) in pixels. See `read_nmnist`; others need none.
        strict: bool. Whether damage raises, or its rest is dropped with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the file is damaged or of no known format.

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
    return read_events(decode, source, strict, ordered)


def iter_recording(
    source,
    *,
    name=None,
    orientation="jaer",
    sensor_size=(34, 34),
    strict=True,
    ordered=True,
    chunk_events=CHUNK_EVENTS,
):
    """As `read_recording`, in chunks of at most `chunk_events` events.

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
    return iterate(decode, source, strict, ordered, chunk_events)


def _decoder(source, name, **options):
    """The `decode` of `byte_stream.iterate` for a recording of any format."""
    check_orientation(options["orientation"])
    if name is None and isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)

    def decode(stream, clock, chunk_events):
        start = stream.peek(16)
        for form in FORMATS:
            by_name = form.magic is None and (name or "").endswith(form.extensions)
            if by_name or (form.magic and start.startswith(form.magic)):
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
