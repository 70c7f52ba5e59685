"""`data show`: draw or animate a recording."""

from pathlib import Path

from keras_qkformer.cli.argument_types import (
    FIGURE_SUFFIXES,
    InputFile,
    Number,
    OutputFile,
    SensorSize,
    Whole,
)
from keras_qkformer.cli.arguments import add_table, refuse_given

_MOST_VALUES = 10**8  # Of all frames, two per pixel: 0.4 GB.


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "show",
        run,
        "draw or animate a recording of an event camera",
        "seven.aedat --out seven.gif --duration-ms 200",
    )
    parser.add_argument(
        "recording",
        type=InputFile(),
        help="file in one of the formats of docs/data.md, such as AEDAT or EVT",
    )
    parser.add_argument(
        "--out",
        type=OutputFile(FIGURE_SUFFIXES),
        help="file to write: .png, .gif, .pdf (default: in the current folder, the "
        "recording's name with .gif, or with _KIND.png for another --kind)",
    )
    parser.add_argument(
        "--kind",
        choices=("frames", "cloud", "gif"),
        help="frames side by side, points in space and time, or an animation "
        "(default: gif without --out or if that ends in .gif, else frames)",
    )
    parser.add_argument(
        "--frames", type=Whole(1, 1000), help="number of frames (default: 16)"
    )
    parser.add_argument(
        "--split-by",
        choices=("time", "number"),
        help="frames of equal duration, or of equally many events (default: time)",
    )
    parser.add_argument(
        "--start-ms",
        type=Number(0, 1e9),
        default=0.0,
        help="start, counted from the first event (default: 0)",
    )
    parser.add_argument(
        "--duration-ms",
        type=Number(0.001, 1e9),
        help="duration (default: to the end)",
    )
    parser.add_argument(
        "--sensor-size",
        type=SensorSize(4096),
        metavar="HEIGHTxWIDTH",
        help="in pixels (default: from the largest coordinates)",
    )
    add_table(parser)


def run(arguments):
    """Draw the recording, or a part of it."""
    out = arguments.out or _default_out(arguments)
    is_gif = out.lower().endswith(".gif")
    kind = arguments.kind or ("gif" if is_gif else "frames")
    if kind == "cloud":
        refuse_given(arguments, ("frames", "split_by"), "frames", "--kind cloud")
    if (kind == "gif") != is_gif:
        raise ValueError(
            "An animation, and nothing else, must be named .gif. "
            f"Received: --kind {kind} --out {out}"
        )
    import numpy as np

    from keras_qkformer.analysis.figures.events import (
        animate_event_frames,
        plot_event_cloud,
        plot_event_frames,
    )
    from keras_qkformer.events.event_array import check_coordinates
    from keras_qkformer.events.frames import events_to_frames

    path, size = arguments.recording, arguments.sensor_size
    events = _read_part(arguments)
    size = size or tuple(int(events[axis].max()) + 1 for axis in "yx")
    check_coordinates(events, size)
    title = Path(path).name
    if kind == "cloud":
        print(plot_event_cloud(events, out, size, title=title))
        return
    count, split_by = arguments.frames or 16, arguments.split_by or "time"
    if 2 * count * size[0] * size[1] > _MOST_VALUES:
        raise ValueError(
            f"Frames must have at most {_MOST_VALUES:,} values, two per pixel. "
            f"Received: {count} frames of {size[0]}x{size[1]} pixels"
        )
    frames, t = events_to_frames(events, count, size, split_by=split_by), events["t"]
    if split_by == "number":
        starts = t[len(t) // count * np.arange(count)]
    else:
        starts = t[0] + np.ptp(t) // count * np.arange(count)
    plot = animate_event_frames if kind == "gif" else plot_event_frames
    print(plot(frames, out, edges_us=[*starts, t[-1]], title=title))


def _default_out(arguments):
    """Name of a file in the current folder, never that of the recording's picture."""
    stem, kind = Path(arguments.recording).stem, arguments.kind or "gif"
    return f"{stem}.gif" if kind == "gif" else f"{stem}_{kind}.png"


def _read_part(arguments):
    """Events of a span of time, in milliseconds from the first event."""
    from keras_qkformer.events.event_array import slice_time
    from keras_qkformer.events.recording import read_recording

    path, size = arguments.recording, arguments.sensor_size
    start_ms, duration_ms = arguments.start_ms, arguments.duration_ms
    events = read_recording(
        path,
        time_unit=arguments.time_unit,
        columns=arguments.columns,
        **({"sensor_size": size} if size else {}),
    )
    if len(events):
        start = int(events["t"][0]) + round(1000 * start_ms)
        end = int(events["t"][-1]) + 1
        if duration_ms is not None:
            end = start + round(1000 * duration_ms)
        events = slice_time(events, start, end)
    if not len(events):
        raise ValueError(f"There must be events to show at that time of {path!r}.")
    return events
