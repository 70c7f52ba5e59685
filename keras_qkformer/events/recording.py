"""Recordings of event cameras, to and from arrays of `EVENT_DTYPE`.

| format    | extension      | cameras and data sets                              |
|-----------|----------------|----------------------------------------------------|
| AEDAT 2.0 | `.aedat`       | jAER with a DVS128: CIFAR10-DVS                    |
| AEDAT 3.1 | `.aedat`       | cAER: DVS128 Gesture                               |
| AEDAT 4   | `.aedat4`      | DV; to read: `pip install 'keras_qkformer[events]'`|
| N-MNIST   | `.bin`, `.bs2` | N-MNIST, N-Caltech101                              |

`read_...` returns all events of a path, bytes or a binary file object. `iter_...` takes
the same arguments and yields the events in chunks, so that memory stays bounded
whatever the size of the recording. Both treat damage alike:

- `strict=True`: a file that is truncated, empty, of another format or corrupted raises
  `DamagedRecordingError` with the byte offset and what was expected there;
- `strict=False`: every whole event before the damage is kept, and a
  `DamagedRecordingWarning` says how many bytes were dropped.

Time that runs backwards counts as damage, unless `ordered=False`. What no format lets
anybody see is damage that turns one possible event into another.
"""

import os

from keras_qkformer.events.aedat2 import check_orientation, decode_aedat2
from keras_qkformer.events.aedat4 import decode_aedat4
from keras_qkformer.events.aedat31 import decode_aedat31
from keras_qkformer.events.byte_stream import (
    CHUNK_EVENTS,
    DamagedRecordingError,
    all_events,
    iterate,
)
from keras_qkformer.events.nmnist import decode_nmnist

_NMNIST_EXTENSIONS = (".bin", ".bs2")


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
    >>> file = io.BytesIO()
    >>> write_aedat31(file, np.array([(10, 3, 4, True)], EVENT_DTYPE))
    >>> read_recording(file.getvalue()).tolist()
    [(10, 3, 4, True)]
    """
    return all_events(
        iter_recording(
            source,
            name=name,
            orientation=orientation,
            sensor_size=sensor_size,
            strict=strict,
            ordered=ordered,
        )
    )


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
    >>> file = io.BytesIO()
    >>> write_aedat31(file, np.array([(10, 3, 4, True)] * 3, EVENT_DTYPE))
    >>> [len(chunk) for chunk in iter_recording(file.getvalue(), chunk_events=2)]
    [2, 1]
    """
    check_orientation(orientation)
    if name is None and isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)

    def decode(stream, clock, chunk_events):
        start = stream.peek(12)
        if start.startswith(b"#!AER-DAT2"):
            return decode_aedat2(stream, clock, chunk_events, orientation)
        if start.startswith(b"#!AER-DAT3"):
            return decode_aedat31(stream, clock, chunk_events, False)
        if start.startswith(b"#!AER-DAT4"):
            return decode_aedat4(stream, clock, chunk_events)
        if name is not None and name.endswith(_NMNIST_EXTENSIONS):
            return decode_nmnist(stream, clock, chunk_events, sensor_size)
        raise DamagedRecordingError(
            0,
            "expected '#!AER-DAT' with 2.0, 3.1 or 4.0, or a file named "
            f"{' or '.join(_NMNIST_EXTENSIONS)}. Received: {start or 'an empty file'}.",
        )

    return iterate(decode, source, strict, ordered, chunk_events)


EXTENSIONS = (".aedat", ".aedat4", ".bin", ".bs2")
