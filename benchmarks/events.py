"""Measures how fast recordings are read and turned into frames, on one core.

    python -m benchmarks.events FILE... [--repeats 7]

Prints the median over the repeats, in million events per second of processor time,
which other processes hardly change. Writes all results with machine and versions to
`benchmarks/results/events-<date>.json`.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np

from keras_qkformer import __version__
from keras_qkformer.events.frames import (
    events_to_frames,
    events_to_frames_by_duration,
    events_to_voxel_grid,
)
from keras_qkformer.events.recording import read_recording

RESULTS = Path(__file__).with_name("results")
SENSOR_SIZE = (128, 128)


def measure(paths, repeats):
    """Measure each task `repeats` times, after one call to warm up.

    Args:
        paths: list of str or path. Recordings of 128x128 pixels.
        repeats: int > 0.

    Returns:
        `(seconds, count)`: a dict from tasks to lists of processor seconds, and the
        number of events.
    """
    recordings = [read_recording(path) for path in paths]
    tasks = {
        "read": lambda: [read_recording(path) for path in paths],
        "16 frames by number": lambda: [
            events_to_frames(events, 16, SENSOR_SIZE) for events in recordings
        ],
        "16 frames by time": lambda: [
            events_to_frames(events, 16, SENSOR_SIZE, split_by="time")
            for events in recordings
        ],
        "frames of 0.1 s": lambda: [
            events_to_frames_by_duration(events, 100_000, SENSOR_SIZE)
            for events in recordings
        ],
        "voxel grid of 16 bins": lambda: [
            events_to_voxel_grid(events, 16, SENSOR_SIZE) for events in recordings
        ],
    }
    seconds = {}
    for name, task in tasks.items():
        task()
        seconds[name] = []
        for _ in range(repeats):
            start = time.process_time()
            task()
            seconds[name].append(time.process_time() - start)
    return seconds, sum(map(len, recordings))


def main():
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "paths", nargs="+", metavar="FILE", help="recordings of 128x128 pixels"
    )
    parser.add_argument(
        "--repeats", type=int, default=7, help="at least 5 (default: 7)"
    )
    arguments = parser.parse_args()
    if arguments.repeats < 5:
        parser.error(f"--repeats must be at least 5. Received: {arguments.repeats}")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    load_before = os.getloadavg()[0]
    seconds, count = measure(arguments.paths, arguments.repeats)
    speeds = {
        name: {
            "median": round(count / statistics.median(values) / 1e6, 1),
            "slowest": round(count / max(values) / 1e6, 1),
            "fastest": round(count / min(values) / 1e6, 1),
        }
        for name, values in seconds.items()
    }
    today = datetime.date.today().isoformat()
    result = {
        "what": "million events per second of processor time, on one core",
        "date": today,
        "command": "python -m benchmarks.events FILE...",
        "files": len(arguments.paths),
        "events": count,
        "repeats": arguments.repeats,
        "speeds": speeds,
        "machine": processor(),
        "load_average_before": round(load_before, 2),
        "versions": {
            "keras_qkformer": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    for name, speed in speeds.items():
        print(f"{name:<24}{speed['median']:>8.1f} M events/s")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"events-{today}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(path)


def processor():
    """Return the name of the processor, the number of cores, and the system."""
    name = None
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.split(":")[1] for line in lines if line.startswith("model name")]
        name = names[0].strip() if names else None
    return {"processor": name, "cores": os.cpu_count(), "system": platform.platform()}


if __name__ == "__main__":
    main()
