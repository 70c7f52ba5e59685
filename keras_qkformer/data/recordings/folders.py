"""Recordings in folders or lists, as a source of event frames."""

import dataclasses
from pathlib import Path

import numpy as np

from keras_qkformer.data.source import OnDemand, Source, check_split
from keras_qkformer.events.byte_stream import MAX_GAP_US
from keras_qkformer.events.event_array import (
    check_frames,
    slice_time,
    sort_by_time,
    split_windows,
)
from keras_qkformer.events.frames import events_to_frames, events_to_voxel_grid
from keras_qkformer.events.recording import EXTENSIONS, read_recording

COUNTS = {"mean": (0.0, 0.0), "std": (1.0, 1.0), "max_value": 1.0}


@dataclasses.dataclass(frozen=True)
class _File:
    """A recording, the name of its class, and the span to use, or `None` for all."""

    path: Path
    label: str
    span_us: tuple[int, int] | None = None


def recordings(
    *,
    time_steps,
    data_dir=None,
    sensor_size=(128, 128),
    frames_by="number",
    window_us=None,
    max_gap_us=MAX_GAP_US,
):
    """Return your own recordings, in any format that `events.read_recording` knows.

    `data_dir` holds one of

    - `<split>/<class>/<file>`, if it has a folder `train`;
    - `<class>/<file>`: the only split is `train`;
    - lists `<split>.txt` of lines `file class`, as in N-MNIST: `#` starts a comment,
      and a file of this folder may be named without its extension. A line `file class
      start end` takes only this part, in seconds from the first event.

    The examples of a split come in a fixed random order, so that a slice of it has all
    classes. A slice counts recordings, never parts of one.

    Args:
        time_steps: int > 0. Frames per example.
        data_dir: str or path of the folder, always needed.
        sensor_size: (height, width) in pixels.
        frames_by: str. `"number"`, `"time"` or `"voxel"`, see `frames_of_events`.
        window_us: int > 0 or `None`. Cuts every recording into examples of this many
            microseconds and drops the remainder.
        max_gap_us: int > 0. Longest time from one event to the next, in microseconds;
            a longer one counts as damage.

    Returns:
        `Source`.

    Raises:
        ValueError: if there is no such folder or nothing is in it, a list names a file
            outside of it, or an argument is out of range.
    """
    check_frames(time_steps, sensor_size)
    if data_dir is None or not Path(data_dir).is_dir():
        raise ValueError(
            "data.data_dir must be a folder with recordings. "
            f"Received: {data_dir if data_dir is None else str(data_dir)!r}"
        )
    splits = _find_splits(Path(data_dir))
    names = {file.label for files in splits.values() for file in files}
    if not names:
        raise ValueError(
            f"The folder must have recordings ({', '.join(EXTENSIONS)}) in a folder "
            f"per class, or lists of them. Received: {str(data_dir)!r}"
        )
    names = sorted(names, key=_order)

    def read(file):
        events = read_recording(
            file.path,
            sensor_size=sensor_size,
            ordered=False,
            max_gap_us=max_gap_us,
        )
        if file.span_us is None or not len(events):
            return events
        events = sort_by_time(events)
        return slice_time(events, *(events["t"][0] + np.array(file.span_us)))

    def to_frames(events, path):
        try:
            return frames_of_events(events, time_steps, sensor_size, frames_by)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def load(split, bounds):
        check_split(split, splits)
        files = splits[split]
        order = np.random.default_rng(0).permutation(len(files))
        first, last = bounds(len(files))
        files = [files[i] for i in order[first:last]]
        labels = np.array([names.index(file.label) for file in files], "int64")
        if window_us is None:
            return on_demand(
                lambda i: read(files[i]), [file.path for file in files]
            ), labels
        windows, paths, counts = [], [], []
        for file in files:
            parts = split_windows(sort_by_time(read(file)), window_us)
            windows += parts
            paths += [file.path] * len(parts)
            counts.append(len(parts))
        if not windows:
            raise ValueError(
                "data.window_us must not exceed the length of all recordings. "
                f"Received: window_us={window_us}"
            )
        return on_demand(windows.__getitem__, paths), np.repeat(labels, counts)

    def on_demand(read_events, paths):
        return OnDemand(
            read_events,
            np.arange(len(paths)),
            (time_steps, *sensor_size, 2),
            frame_type(frames_by),
            finish=lambda events, i: to_frames(events, paths[i]),
        )

    return Source(class_names=tuple(names), load=load, **COUNTS)


def _order(name):
    """What classes are sorted by: numbers by their value, others as text."""
    is_number = name.isdecimal() and len(name) < 10
    return int(name) if is_number else 0, name


def frame_type(frames_by):
    """Return the type of the frames that `frames_of_events` makes.

    Args:
        frames_by: str. `"number"`, `"time"` or `"voxel"`.

    Returns:
        str: `"uint16"` or, for voxel grids, `"float32"`.

    Raises:
        ValueError: if `frames_by` is unknown.
    """
    types = {"number": "uint16", "time": "uint16", "voxel": "float32"}
    if frames_by not in types:
        raise ValueError(
            f"frames_by must be one of {sorted(types)}. Received: {frames_by!r}"
        )
    return types[frames_by]


def frames_of_events(events, time_steps, sensor_size, frames_by):
    """Make the frames of an example.

    Args:
        events: array `(events,)` with fields t, x, y, p, in any order.
        time_steps: int > 0. Number of frames.
        sensor_size: (height, width) in pixels.
        frames_by: str. `"number"` or `"time"`, see `events.events_to_frames`, or
            `"voxel"`, see `events.events_to_voxel_grid`.

    Returns:
        Array `(time, height, width, 2)`: uint16 counts, or a float32 voxel grid.

    Raises:
        ValueError: if an event lies outside the sensor, a count does not fit 16 bits,
            as of a pixel that fires all the time, or an argument is out of range.
    """
    dtype = frame_type(frames_by)
    if frames_by == "voxel":
        return events_to_voxel_grid(sort_by_time(events), time_steps, sensor_size)
    if frames_by == "time":
        events = sort_by_time(events)
    try:
        return events_to_frames(
            events, time_steps, sensor_size, split_by=frames_by, dtype=dtype
        )
    except OverflowError as error:  # A recording of the user's, and no bug.
        raise ValueError(f"{error}: a window_us, or more frames, have fewer") from error


def _find_splits(folder):
    """Return a dict from the name of a split to its list of `_File`."""
    lists = [
        path
        for path in sorted(folder.glob("*.txt"))
        if path.stem.lower() not in ("readme", "license")
        and _is_shown(path)
        and path.is_file()
    ]
    if lists:
        return {path.stem: _read_list(path) for path in lists}
    if (folder / "train").is_dir():
        return {path.name: _find_classes(path) for path in _folders(folder)}
    return {"train": _find_classes(folder)}


def _find_classes(folder):
    return [
        _File(path, child.name)
        for child in _folders(folder)
        for path in sorted(child.iterdir())
        if path.suffix.lower() in EXTENSIONS and _is_shown(path) and path.is_file()
    ]


def _folders(folder):
    return sorted(
        path for path in folder.iterdir() if _is_shown(path) and path.is_dir()
    )


def _is_shown(path):
    """Whether a name is no hidden one, as macOS leaves beside files on other disks."""
    return not path.name.startswith(".")


def _read_list(path):
    files = []
    # Bytes that are no UTF-8 name no file.
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        candidates = [
            path.parent / f"{fields[0]}{extension}" for extension in ("", *EXTENSIONS)
        ]
        inside = not Path(fields[0]).is_absolute() and ".." not in Path(fields[0]).parts
        found = [file for file in candidates if inside and file.is_file()]
        if len(fields) not in (2, 4) or not found:
            raise ValueError(
                f"{path}, line {number}, must be a file of this folder and its class, "
                f"perhaps with a start and an end. Received: {line!r}"
            )
        span_us = None
        if fields[2:]:
            try:
                start, end = (round(1e6 * float(text)) for text in fields[2:])
                if not 0 <= start < end < 1 << 53:
                    raise ValueError
            except (ValueError, OverflowError) as error:
                raise ValueError(
                    f"{path}, line {number}, must have a start in seconds and a later "
                    f"end. Received: {line!r}"
                ) from error
            span_us = start, end
        files.append(_File(found[0], fields[1], span_us))
    return files
