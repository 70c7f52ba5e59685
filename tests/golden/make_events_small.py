"""Make events_small.npz: frames of made-up events by SpikingJelly's own functions.

    python tests/golden/make_events_small.py

Needs spikingjelly 0.0.0.0.12 without its dependencies, NumPy and torch; what else the
module of its data sets imports (torchvision, scipy, matplotlib) is not used, and empty
modules stand for it. Frames are `[time, polarity, y, x]`, as there.

    python tests/golden/make_events_small.py RECORDING.aedat

prints instead the SHA-256 of the frames of a real DVS128 recording: tests compare with
it where the recording is at hand.
"""

import hashlib
import sys
from pathlib import Path
from unittest import mock

import numpy as np

for _name in ("torchvision", "torchvision.datasets", "scipy", "scipy.io"):
    sys.modules[_name] = mock.MagicMock()
sys.modules["torchvision.datasets"].DatasetFolder = object
sys.modules["matplotlib"] = mock.MagicMock()

from spikingjelly.datasets import (  # noqa: E402
    integrate_events_by_fixed_frames_number,
)

COUNTS = (16, 100, 1001)
FRAMES = (1, 3, 7)
HEIGHT, WIDTH = 5, 7


def random_events(count):
    """Events on 5x7 pixels, some of them at one moment."""
    rng = np.random.default_rng(count)
    # No frame of equal length may be empty: SpikingJelly would fail on it.
    t = np.sort(20 * np.arange(count) + rng.integers(0, 40, count)) // 8 + 10**15
    return {
        "t": t,
        "x": rng.integers(0, WIDTH, count),
        "y": rng.integers(0, HEIGHT, count),
        "p": rng.integers(0, 2, count),
    }


def main():
    """Write `events_small.npz` beside this file."""
    arrays = {}
    for count in COUNTS:
        events = random_events(count)
        for field, values in events.items():
            arrays[f"{count}/{field}"] = values
        for split_by in ("number", "time"):
            for frames in FRAMES:
                made = integrate_events_by_fixed_frames_number(
                    events, split_by, frames, HEIGHT, WIDTH
                )
                assert np.array_equal(made, made.astype("u1"))
                arrays[f"{count}/{split_by}/{frames}"] = made.astype("u1")
    target = Path(__file__).with_name("events_small.npz")
    np.savez_compressed(target, **arrays)
    print(f"{target}: {len(arrays)} arrays, {target.stat().st_size} bytes")


def digest_of(path):
    """Print the hashes for a real recording of CIFAR10-DVS's kind."""
    content = Path(path).read_bytes()
    start = 0
    while content[start : start + 1] == b"#":
        start = content.index(b"\n", start) + 1
    address, t = np.frombuffer(content, ">u4", offset=start).reshape(-1, 2).T
    events = {
        "t": t.astype("i8"),
        "x": 127 - (address >> 8 & 127).astype("i8"),
        "y": 127 - (address >> 1 & 127).astype("i8"),
        "p": 1 - (address & 1).astype("i8"),
    }
    for split_by in ("number", "time"):
        frames = integrate_events_by_fixed_frames_number(events, split_by, 16, 128, 128)
        digest = hashlib.sha256(frames.astype("<u2").tobytes()).hexdigest()
        print(split_by, frames.sum(), digest)


if __name__ == "__main__":
    digest_of(sys.argv[1]) if len(sys.argv) > 1 else main()
