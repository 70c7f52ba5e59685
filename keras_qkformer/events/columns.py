"""Columns t, x, y and p of tables, by the names that software gives them, as events."""

import numpy as np

from keras_qkformer.events.byte_stream import (
    DamagedRecordingError,
    earliest,
    first_fault,
)
from keras_qkformer.events.event_array import EVENT_DTYPE
from keras_qkformer.printable import printable

NAMES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "p": ("p", "ps", "pol", "polarity", "polarities"),
}
"""Names of columns in any case: those of SpikingJelly, Tonic, DSEC and others."""
TIME_UNITS = {"s": 1e6, "ms": 1e3, "us": 1, "ns": 1e-3}
"""Microseconds in a unit of time."""
_LARGEST_TIME = 2.0**63


def find_columns(names):
    """Find the columns of events among those of a table.

    Args:
        names: list of str.

    Returns:
        Dict from "t", "x", "y" and "p" to a name, or `None` if one is missing.

    Example:
    >>> find_columns(["ts", "x", "y", "Polarity", "id"])
    {'t': 'ts', 'x': 'x', 'y': 'y', 'p': 'Polarity'}
    """
    lower = {name.lower(): name for name in names}
    found = {
        field: next((lower[name] for name in known if name in lower), None)
        for field, known in NAMES.items()
    }
    return None if None in found.values() else found


def check_time_unit(time_unit):
    """Raise `ValueError` unless a unit of time is known.

    Args:
        time_unit: str, one of `TIME_UNITS`, or `None`.
    """
    if time_unit is not None and time_unit not in TIME_UNITS:
        raise ValueError(
            f"time_unit must be one of {', '.join(TIME_UNITS)}, or None. "
            f"Received: time_unit={time_unit!r}"
        )


def decode_table(read, count, chunk_events, time_unit, clock, place):
    """Decode a table whose columns are arrays, chunk by chunk.

    Args:
        read: function `rows -> columns` that gives the next rows, see
            `events_of_columns`.
        count: int. Number of rows.
        chunk_events: int > 0. Maximum number of events in a chunk.
        time_unit: see `events_of_columns`.
        clock: `Clock` that checks the times.
        place: int. Byte of the file where damage is said to be.

    Yields:
        Arrays `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if a row can't be an event, after the events before.
    """
    for first in range(0, count, chunk_events):
        rows = min(chunk_events, count - first)
        events, fault = events_of_columns(read(rows), time_unit)
        fault = earliest(fault, clock.fault(events["t"]))
        yield from rows_before(fault, events, first, place)


def rows_before(fault, events, first, place):
    """Yield events up to a fault, which then is raised as damage of its row.

    Args:
        fault: see `byte_stream.first_fault`.
        events: array `(events,)` of `EVENT_DTYPE`.
        first: int. Number of their first row.
        place: int. Byte of the file where the damage is said to be.

    Yields:
        Array `(events,)` of `EVENT_DTYPE`.

    Raises:
        DamagedRecordingError: if there is a fault.
    """
    yield events[: fault[0]] if fault else events
    if fault:
        raise DamagedRecordingError(place, f"in row {first + fault[0]}, {fault[1]}")


def events_of_columns(columns, time_unit):
    """Make events of columns.

    Args:
        columns: dict from "t", "x", "y" and "p" to arrays `(events,)` of numbers.
        time_unit: str, one of `TIME_UNITS`. `None` for whole microseconds.

    Returns:
        `(events, fault)`: array `(events,)` of `EVENT_DTYPE`, and the first row that
        can't be an event, see `byte_stream.first_fault`; the events end there.
    """
    t, x, y, p = (columns[name] for name in "txyp")
    t, fault = _microseconds(t, time_unit)
    faults = [fault]
    faults += [_outside(name, columns[name], 0, 65535) for name in "xy"]
    faults.append(_outside("p", p, -1, 1))
    fault = earliest(*faults)
    count = fault[0] if fault else len(t)
    events = np.empty(count, EVENT_DTYPE)
    for name, values in (("t", t), ("x", x), ("y", y), ("p", p)):
        events[name] = values[:count] > 0 if name == "p" else values[:count]
    return events, fault


def _microseconds(t, time_unit):
    """Times in microseconds, and the first that can't be one."""
    if t.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = t.astype("f8") * TIME_UNITS[time_unit or "us"]
            wrong = ~(np.abs(scaled) < _LARGEST_TIME)
            if time_unit is None:
                wrong |= scaled != np.floor(scaled)
        fault = first_fault(
            wrong,
            lambda i: (
                "expected a time in whole microseconds, or the unit of the times as "
                f"time_unit: {', '.join(TIME_UNITS)}. Received: {t[i]}."
            ),
        )
        count = fault[0] if fault else len(t)
        return np.rint(scaled[:count]).astype("i8"), fault
    fault = None
    if t.dtype.kind == "u" and t.dtype.itemsize == 8:  # Of either order of bytes.
        fault = first_fault(
            t >= np.uint64(1 << 63), lambda i: f"expected a time below 2^63: {t[i]}."
        )
        t = t[: fault[0]] if fault else t
    t = t.astype("i8")
    if time_unit == "ns":
        return t // 1000, fault
    factor = int(TIME_UNITS[time_unit or "us"])
    if factor > 1:
        most = ((1 << 63) - 1) // factor
        late = first_fault(
            (t > most) | (t < -most),
            lambda i: f"expected a time below 2^63 microseconds. Received: {t[i]}.",
        )
        fault = late or fault
        t = t[: late[0]] if late else t
    return t * factor, fault


def _outside(name, values, least, most):
    """The first value outside a range, or that is no whole number."""
    wrong = np.zeros(len(values), bool)
    if values.dtype.kind != "b":
        with np.errstate(invalid="ignore"):
            wrong = ~((values >= least) & (values <= most))
            if values.dtype.kind == "f":
                wrong |= values != np.floor(values)
    return first_fault(
        wrong,
        lambda i: (
            f"expected a whole number from {least} to {most} as {name}. "
            f"Received: {printable(str(values[i]), 40)}."
        ),
    )
