"""Tables of events as text, with a line per event: CSV, and the like.

Values are separated by commas, semicolons, tabs or blanks. Lines at the start that
begin with `#` or `%` are comments; Metavision's `%geometry:1280,720` states the
sensor's size. The first line, a comment or not, may name the columns, in any order and
among others: `columns.NAMES` lists the names that are read, and the time may add its
unit, as `t_us`, `time [s]` or `timestamp (ns)`. Without names, `columns` tells the
order:

- `"xypt"` for Metavision's files;
- `"txyp"` for those of the Event-Camera Dataset, in seconds.

A byte order mark at the start of the file means nothing.

Without a unit in the file or as `time_unit`, times are whole microseconds. A polarity
is ON if it is 1, and OFF if it is 0 or -1.

Damage: columns that are not known, a line of more than 64 KiB, with other than numbers
or with too few, a value that can't be one of an event, a pixel outside the sensor, time
that runs backwards or leaps ahead. A last line that was cut may look whole.
"""

import re

import numpy as np

from keras_qkformer.events.byte_stream import (
    CHUNK_EVENTS,
    MAX_GAP_US,
    DamagedRecordingError,
    earliest,
    opened,
    outside,
    read_events,
)
from keras_qkformer.events.columns import (
    check_time_unit,
    events_of_columns,
    find_columns,
)
from keras_qkformer.events.event_array import check_coordinates
from keras_qkformer.events.other_files import describe_other

BLOCK_BYTES = 1 << 18
_LONGEST_LINE = 1 << 16
_MOST_COMMENTS = 1000
_LARGEST_SIZE = (1 << 16, 1 << 16)
_NAME = re.compile(r"([a-z]+)[ _]?[\[(]?(us|µs|ms|ns|s|)[\])]?")
_MARK = b"\xef\xbb\xbf"  # With which spreadsheets begin UTF-8.
_FRACTION = re.compile(r"[.eEnN]")
_GEOMETRY = re.compile(r"geometry:\s*(\d{1,5}),\s*(\d{1,5})")


def read_csv(
    source,
    *,
    columns=None,
    time_unit=None,
    strict=True,
    ordered=True,
    max_gap_us=MAX_GAP_US,
):
    r"""Read all events of a table of text.

    Args:
        source: path, bytes or binary file object.
        columns: str: the letters t, x, y and p, in the order of the first four columns,
            and `-` for one that is none of these. `None` takes it from the file.
        time_unit: str: `"s"`, `"ms"`, `"us"` or `"ns"`. `None` takes it from the file,
            or means whole microseconds.
        strict: bool. Whether damage raises; otherwise the file is dropped from there
            on, with a warning.
        ordered: bool. Whether time that runs backwards counts as damage.
        max_gap_us: int >= 0 or `None`. Longest time from one event to the next, in
            microseconds, an hour by default; more counts as damage. `None` for no
            bound.

    Returns:
        Array `(events,)` of `EVENT_DTYPE`, with x and y as in the file.

    Raises:
        DamagedRecordingError: if the file is damaged or of another format.
        ValueError: if `columns` or `time_unit` is unknown.

    Example:
    >>> read_csv(b"x,y,p,t_us\n3,4,1,10\n").tolist()
    [(10, 3, 4, True)]
    >>> read_csv(b"0.5 3 4 -1\n", columns="txyp", time_unit="s").tolist()
    [(500000, 3, 4, False)]
    """
    check_columns(columns)
    check_time_unit(time_unit)

    def decode(stream, clock, chunk_events):
        return decode_csv(stream, clock, chunk_events, columns, time_unit)

    return read_events(decode, source, strict, ordered, max_gap_us)


def check_columns(columns):
    """Raise `ValueError` unless an order of columns has each once.

    Args:
        columns: str or `None`, see `read_csv`.
    """
    if columns is not None and sorted(columns.replace("-", "")) != sorted("txyp"):
        raise ValueError(
            "columns must have each of the letters t, x, y and p once, and - for other "
            f"columns, such as 'xypt'. Received: columns={columns!r}"
        )


def decode_csv(stream, clock, chunk_events, columns, time_unit):
    """Decode a stream chunk by chunk, see `byte_stream.iterate`.

    Args:
        stream: `ByteStream` at the start of a recording.
        clock: `Clock` that checks the times.
        chunk_events: int > 0. Maximum number of events in a chunk.
        columns: str or `None`. See `read_csv`.
        time_unit: str or `None`. See `read_csv`.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if the recording is damaged, after the events before.
    """
    places, unit = _read_start(stream, columns)
    unit = time_unit or unit
    size = stream.details.sensor_size or _LARGEST_SIZE
    while lines := _take_lines(stream):
        values, message = _parse(lines, places)
        for first in range(0, max(len(values), 1), chunk_events):
            rows = values[first : first + chunk_events]
            table = {name: rows[:, i] for i, name in enumerate("txyp")}
            events, fault = events_of_columns(table, unit)
            fault = earliest(
                fault,
                outside(events["x"], events["y"], size),
                clock.fault(events["t"]),
            )
            yield events[: fault[0]] if fault else events
            if fault:
                _refuse(stream, lines, first + fault[0], fault[1])
        if message:
            _refuse(stream, lines, len(values), message)


def _refuse(stream, lines, number, message):
    """Raise the error about a line of those that were just taken."""
    behind = sum(map(len, lines[number:]))
    raise DamagedRecordingError(stream.offset - behind, message)


def _read_start(stream, columns):
    """Skip comments and names; return the places of t, x, y and p, and the unit."""
    names = None
    if stream.peek(3) == _MARK:
        stream.take(3)
    for _ in range(_MOST_COMMENTS):
        line = _line(stream)
        text = line.decode("latin-1").strip()
        is_comment = text[:1] in ("#", "%")
        if size := _GEOMETRY.search(text) if is_comment else None:
            stream.details.sensor_size = int(size[2]), int(size[1])
        found = _columns_of(text.lstrip("#% "))
        names = found or names
        if not is_comment and not found:
            break
        stream.take(len(line))
    if columns:
        return [columns.index(name) for name in "txyp"], names and names[1]
    if names is None:
        raise DamagedRecordingError(
            0,
            describe_other(line)
            or "expected a first line that names the columns t, x, y and p, or their "
            "order as columns: 'xypt' for Metavision's tables, 'txyp' for those of the "
            f"Event-Camera Dataset. Received: {line[:60] or 'an empty file'}.",
        )
    return names


def _columns_of(text):
    """The places of t, x, y and p among names, and the unit of the time, or `None`."""
    names = [name.strip(" \"'").lower() for name in _split(text)]
    units = {}
    for number, name in enumerate(names):
        if match := _NAME.fullmatch(name):
            names[number], units[match[1]] = match[1], match[2].replace("µ", "u")
    found = find_columns(names)
    if found is None:
        return None
    unit = units.get(found["t"]) or None
    return [names.index(found[name]) for name in "txyp"], unit


def _split(text):
    for separator in ",;\t":
        if separator in text:
            return text.split(separator)
    return text.split()


def _line(stream):
    """The next line with its end, or what is left of the file."""
    start = stream.peek(_LONGEST_LINE)
    end = start.find(b"\n") + 1
    if not end and len(start) == _LONGEST_LINE:
        raise DamagedRecordingError(
            stream.offset, "expected a line of text of less than 64 KiB."
        )
    return start[: end or len(start)]


def _take_lines(stream):
    """Take the next lines, with their ends; none at the end of the file."""
    block = stream.peek(BLOCK_BYTES)
    if len(block) == BLOCK_BYTES:
        end = block.rfind(b"\n") + 1
        block = block[:end] if end else _line(stream)
    lines = stream.take(len(block)).splitlines(keepends=True)
    while lines and not stream.peek(1) and not lines[-1].strip():
        lines.pop()  # Empty ones at the end of the file.
    return lines


def _parse(lines, places):
    """The values of lines as an array `(lines, 4)`, and what is wrong behind them."""
    separator = next((s for s in ",;\t" if s.encode() in lines[0]), None)
    try:
        return _load(lines, places, separator), None
    except (ValueError, OverflowError):
        pass
    for number, line in enumerate(lines):
        try:
            _load([line], places, separator)
        except (ValueError, OverflowError):
            values = _load(lines[:number], places, separator)
            return values, f"expected a line of numbers. Received: {line[:60]!r}."
    raise AssertionError("Lines can be read one by one, but not together.")


def _load(lines, places, separator):
    """Parse lines, every one a row, to an array `(lines, 4)`."""
    rows = [line.decode("ascii").strip() for line in lines]
    if not rows:
        return np.empty((0, 4), "i8")
    if not all(rows):  # They would be left out, and so have no number.
        raise ValueError("empty lines")
    # Numbers of 64 bits stay what they are, unless some have a fraction.
    dtype = "f8" if _FRACTION.search(" ".join(rows)) else "i8"
    try:
        return np.loadtxt(
            rows, dtype, comments=None, delimiter=separator, usecols=places, ndmin=2
        )
    except ValueError:
        if dtype == "f8":
            raise
    # Too large for 64 bits, perhaps.
    return np.loadtxt(
        rows, "f8", comments=None, delimiter=separator, usecols=places, ndmin=2
    )


def write_csv(target, events, *, sensor_size=None):
    r"""Write events as a table with the columns t_us, x, y and p.

    Args:
        target: path or binary file object.
        events: array `(events,)` with fields t, x, y, p.
        sensor_size: (height, width) in pixels, for a first line to state as
            Metavision does. `None` if none should.

    Raises:
        ValueError: if an event lies outside the sensor.

    Example:
    >>> import io
    >>> from keras_qkformer.events import EVENT_DTYPE
    >>> file = io.BytesIO()
    >>> write_csv(file, np.array([(10, 3, 4, True)], EVENT_DTYPE))
    >>> file.getvalue()
    b't_us,x,y,p\n10,3,4,1\n'
    """
    check_coordinates(events, sensor_size or _LARGEST_SIZE)
    with opened(target, "wb") as file:
        if sensor_size is not None:
            height, width = sensor_size
            file.write(f"%geometry:{width},{height}\n".encode())
        file.write(b"t_us,x,y,p\n")
        for first in range(0, len(events), CHUNK_EVENTS):
            part = events[first : first + CHUNK_EVENTS]
            columns = [part[name].astype("i8") for name in "txyp"]
            np.savetxt(file, np.stack(columns, 1), "%d", delimiter=",")


TABLE = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:[#%][^\n]{0,1000}\n){0,20}(?:"
    # One way alone to match blanks between numbers, or many of them would take days.
    rb"(?:[-+\d.eE]+(?:[ \t]*[,;][ \t]*|[ \t]+)){3}[-+\d.eE]+(?:[,; \t\r\n]|$)"
    rb"|(?i:(?=[^\n]*\bx\b)(?=[^\n]*\by\b)[#% ]*[\w \t,;\[\]()\"_]{7,200}\r?\n))"
)
"""Matches the start of a table without a name that tells: numbers, or names."""
