"""Recordings of event cameras, to and from arrays of `EVENT_DTYPE`.

| format       | extension      | cameras and data sets                           |
|--------------|----------------|-------------------------------------------------|
| AEDAT 2.0    | `.aedat`       | jAER with a DVS128 or DAVIS: CIFAR10-DVS        |
| AEDAT 3.1    | `.aedat`       | cAER: DVS128 Gesture                            |
| AEDAT 4      | `.aedat4`      | DV; needs `pip install 'keras_qkformer[events]'`|
| EVT 2.0      | `.raw`         | Prophesee cameras                               |
| EVT 2.1      | `.raw`         | Prophesee cameras                               |
| EVT 3.0      | `.raw`         | Prophesee cameras                               |
| DAT          | `.dat`         | Prophesee's software: N-Cars, GEN1              |
| NumPy        | `.npz`, `.npy` | caches of SpikingJelly and Tonic                |
| HDF5         | `.h5`, `.hdf5` | DSEC, Metavision; perhaps needs a plug-in       |
| ROS bag      | `.bag`         | `dvs_msgs/EventArray` of ROS 1                  |
| Event Stream | `.es`          | DVS and ATIS cameras                            |
| MATLAB 5     | `.mat`         | ASL-DVS                                         |
| N-MNIST      | `.bin`, `.bs2` | N-MNIST, N-Caltech101                           |
| CSV          | `.csv`         | tables of text, of any software                 |

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
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from keras_qkformer.events.aedat2 import check_orientation, decode_aedat2
from keras_qkformer.events.aedat4 import decode_aedat4
from keras_qkformer.events.aedat31 import NETWORK_MAGIC, decode_aedat31
from keras_qkformer.events.byte_stream import (
    CHUNK_EVENTS,
    MAX_GAP_US,
    DamagedRecordingError,
    Details,
    iterate,
    read_events,
)
from keras_qkformer.events.columns import check_time_unit
from keras_qkformer.events.csv_file import TABLE, check_columns, decode_csv
from keras_qkformer.events.dat import decode_dat
from keras_qkformer.events.event_stream import decode_event_stream
from keras_qkformer.events.evt2 import decode_evt2
from keras_qkformer.events.evt3 import decode_evt3
from keras_qkformer.events.evt21 import decode_evt21
from keras_qkformer.events.hdf5_file import decode_hdf5
from keras_qkformer.events.mat_file import decode_mat
from keras_qkformer.events.nmnist import decode_nmnist
from keras_qkformer.events.npz_file import decode_npy, decode_npz
from keras_qkformer.events.other_files import describe_other
from keras_qkformer.events.rosbag import decode_rosbag

_START_BYTES = 1 << 12
_TELLS = re.compile(
    rb"#!AER-DAT\d|Event Stream|"
    + re.escape(NETWORK_MAGIC)
    # The whole header of Prophesee's formats: any line may state the format.
    + rb"|(?:% [^\n]*\n)*% end\r?\n|(?:% [^\n]*\n)+(?!% )..",
    re.DOTALL,
)
"""Matches first bytes that tell a format, whatever follows."""


class Format(NamedTuple):
    """A format, how to recognise it and how to decode it.

    Attributes:
        name: str.
        pattern: compiled regular expression of bytes, matched at the start of a file,
            or `None` to recognise the format by the extension alone.
        extensions: tuple of str. Extensions of files of this format.
        decode: function `(stream, clock, chunk_events, **options) -> chunks`, see
            `byte_stream.iterate`.
        options: tuple of str. Options of `read_recording` that `decode` takes.
        is_named: bool. Whether a file with one of the extensions is of this format even
            if it does not begin with the pattern.
        is_live: bool. Whether its events can be decoded as they come.
    """

    name: str
    pattern: re.Pattern | None
    extensions: tuple[str, ...]
    decode: Callable
    options: tuple[str, ...] = ()
    is_named: bool = False
    is_live: bool = False


def _prophesee(line):
    """Match a header of Prophesee with such a line, and none that states frames."""
    lines = rb"% (?:[^\n]*\n% )*?"
    return re.compile(b"(?!" + lines + rb"format (?:HISTO|DIFF)3D)" + lines + line)


FORMATS = (
    Format(
        "AEDAT 2.0",
        re.compile(rb"#!AER-DAT2"),
        (".aedat",),
        decode_aedat2,
        ("orientation",),
        is_live=True,
    ),
    Format(
        "AEDAT 3.1",
        re.compile(rb"#!AER-DAT3|" + re.escape(NETWORK_MAGIC)),
        (".aedat",),
        decode_aedat31,
        is_live=True,
    ),
    Format("AEDAT 4", re.compile(rb"#!AER-DAT4"), (".aedat4",), decode_aedat4),
    Format(
        "EVT 2.0",
        _prophesee(rb"(?:evt 2\.0|format EVT2[;\s])"),
        (".raw",),
        decode_evt2,
        is_live=True,
    ),
    Format(
        "EVT 2.1",
        _prophesee(rb"(?:evt 2\.1|format EVT21[;\s])"),
        (".raw",),
        decode_evt21,
        is_live=True,
    ),
    Format(
        "EVT 3.0",
        _prophesee(rb"(?:evt 3\.0|format EVT3[;\s])"),
        (".raw",),
        decode_evt3,
        is_live=True,
    ),
    Format(
        "DAT",
        _prophesee(rb"(?:Data file containing|Version )"),
        (".dat",),
        decode_dat,
        is_live=True,
    ),
    Format(
        "NumPy's npz",
        re.compile(rb"PK(?:\x03\x04|\x05\x06)"),
        (".npz",),
        decode_npz,
        ("time_unit",),
    ),
    Format(
        "NumPy's npy",
        re.compile(rb"\x93NUMPY"),
        (".npy",),
        decode_npy,
        ("time_unit",),
    ),
    Format(
        "HDF5",
        re.compile(rb"\x89HDF\r\n\x1a\n"),
        (".h5", ".hdf5"),
        decode_hdf5,
        ("time_unit",),
    ),
    Format("ROS bag", re.compile(rb"#ROSBAG V2"), (".bag",), decode_rosbag),
    Format(
        "Event Stream",
        re.compile(rb"Event Stream"),
        (".es",),
        decode_event_stream,
        is_live=True,
    ),
    Format(
        "MATLAB 5",
        re.compile(rb"MATLAB 5\.0 MAT-file"),
        (".mat",),
        decode_mat,
        ("time_unit",),
    ),
    Format("N-MNIST", None, (".bin", ".bs2"), decode_nmnist, ("sensor_size",), True),
    # The last, as its pattern says the least.
    Format("CSV", TABLE, (".csv",), decode_csv, ("columns", "time_unit"), True),
)
EXTENSIONS = tuple(dict.fromkeys(e for form in FORMATS for e in form.extensions))
"""Extensions of files that count as recordings."""


def read_recording(
    source: str | os.PathLike | bytes | BinaryIO,
    *,
    name: str | None = None,
    orientation: str = "jaer",
    sensor_size: tuple[int, int] = (34, 34),
    time_unit: str | None = None,
    columns: str | None = None,
    strict: bool = True,
    ordered: bool = True,
    max_gap_us: int | None = MAX_GAP_US,
    details: Details | None = None,
) -> np.ndarray:
    """Read all events of a recording of any known format.

    The first bytes of a file tell its format, whatever its name. An N-MNIST file has no
    header and is recognised by its extension, `.bin` or `.bs2`.

    Args:
        source: path, bytes or binary file object.
        name: str or `None`. File name of bytes or of a file object; `None` takes that
            of the path.
        orientation: str. See `read_aedat2`; other formats ignore it.
        sensor_size: (height, width) in pixels. See `read_nmnist`; other formats ignore
            it.
        time_unit: str: `"s"`, `"ms"`, `"us"` or `"ns"`. Unit of the times in tables,
            such as NumPy's or CSV; `None` for that which the file states, or whole
            microseconds. Other formats ignore it.
        columns: str, such as `"xypt"`, or `None`. See `read_csv`; other formats ignore
            it.
        strict: bool. Whether damage raises; otherwise the file is dropped from there
            on, with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.
        max_gap_us: int >= 0 or `None`. Longest time from one event to the next, in
            microseconds, an hour by default; more counts as damage. `None` for no
            bound.
        details: `byte_stream.Details` to fill in, or `None`.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the file is damaged or of no known format.
        ValueError: if `orientation`, `time_unit` or `columns` is unknown.

    Example:
    >>> import io
    >>> from keras_qkformer.events import EVENT_DTYPE
    >>> from keras_qkformer.events.aedat31 import write_aedat31
    >>> file = io.BytesIO()
    >>> write_aedat31(file, np.array([(10, 3, 4, True)], EVENT_DTYPE))
    >>> read_recording(file.getvalue()).tolist()
    [(10, 3, 4, True)]
    """
    decode = _decoder(
        source,
        name,
        orientation=orientation,
        sensor_size=sensor_size,
        time_unit=time_unit,
        columns=columns,
    )
    return read_events(decode, source, strict, ordered, max_gap_us, details)


def iter_recording(
    source: str | os.PathLike | bytes | BinaryIO,
    *,
    name: str | None = None,
    orientation: str = "jaer",
    sensor_size: tuple[int, int] = (34, 34),
    time_unit: str | None = None,
    columns: str | None = None,
    strict: bool = True,
    ordered: bool = True,
    max_gap_us: int | None = MAX_GAP_US,
    chunk_events: int = CHUNK_EVENTS,
    details: Details | None = None,
    live: bool = False,
) -> Iterator[np.ndarray]:
    """Read a recording of any known format in chunks.

    Args:
        source: see `read_recording`.
        name: see `read_recording`.
        orientation: see `read_recording`.
        sensor_size: see `read_recording`.
        time_unit: see `read_recording`.
        columns: see `read_recording`.
        strict: see `read_recording`.
        ordered: see `read_recording`.
        max_gap_us: see `read_recording`.
        chunk_events: int > 0. Maximum number of events in a chunk.
        details: `byte_stream.Details` to fill in, or `None`: the format and the
            sensor's size are known from the first chunk on.
        live: bool. Whether only formats are taken whose events come as soon as their
            bytes do, for a source that is still written, see `events.live`.

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
    decode = _decoder(
        source,
        name,
        orientation=orientation,
        sensor_size=sensor_size,
        time_unit=time_unit,
        columns=columns,
        live=live,
    )
    return iterate(decode, source, strict, ordered, max_gap_us, chunk_events, details)


def _decoder(source, name, live=False, **options):
    """Return the `decode` of `byte_stream.iterate` for a recording of any format."""
    check_orientation(options["orientation"])
    check_time_unit(options["time_unit"])
    check_columns(options["columns"])
    if name is None and isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)

    def decode(stream, clock, chunk_events):
        start = _first_bytes(stream)
        for form in FORMATS:
            if (form.pattern and form.pattern.match(start)) or (
                form.is_named and (name or "").lower().endswith(form.extensions)
            ):
                stream.details.format = form.name
                if live and not form.is_live:
                    names = ", ".join(f.name for f in FORMATS if f.is_live)
                    raise ValueError(
                        f"A recording that is still written must be of {names}. "
                        f"Received: {form.name}"
                    )
                own = {option: options[option] for option in form.options}
                return form.decode(stream, clock, chunk_events, **own)
        known = ", ".join(f"{f.name} ({' or '.join(f.extensions)})" for f in FORMATS)
        raise DamagedRecordingError(
            0,
            describe_other(start)
            or "expected '#!AER-DAT' and a version, or the first bytes or name of "
            f"another recording. Known are {known}. "
            f"Received: {start[:16] or 'an empty file'}.",
        )

    return decode


def _first_bytes(stream):
    """Return as many of the first bytes as tell the format, and wait for no more."""
    start = stream.peek(1)
    while not _TELLS.match(start) and len(start) < _START_BYTES:
        more = stream.peek_ready(_START_BYTES, len(start) + 1)
        if len(more) == len(start):
            break
        start = more
    return start
