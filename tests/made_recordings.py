"""Recordings for the fuzzer, of formats that the package reads but does not write.

Each function of `PARTS` takes a `random.Random` and events, and returns parts of bytes:
a header, one part for each event, which is whole where its part is, and what follows.
"""

import io
import struct

import h5py
import numpy as np
import scipy.io
import write_rosbag

from keras_qkformer.events.npz_file import write_npz


def write_evt21(file, events):
    """EVT 2.1 with a word for each event, and one for its time."""
    t, x, y, p = (events[name].astype("u8") for name in "txyp")
    words = np.empty((len(events), 2), "<u8")
    words[:, 0] = 8 << 60 | (t >> 6) << 32
    words[:, 1] = (
        p << 60 | (t & 63) << 54 | x >> 5 << 48 | y << 32 | np.uint64(1) << (x & 31)
    )
    file.write(
        b"% evt 2.1\n% format EVT21;endianness=little\n% end\n" + words.tobytes()
    )


def npz_parts(random, events):
    """A NumPy file, deflated or not."""
    file = io.BytesIO()
    write_npz(file, events, compressed=random.random() < 0.5)
    return whole(file, events)


def hdf5_parts(random, events):
    """An HDF5 file with the names of DSEC's, perhaps compressed."""
    file = io.BytesIO()
    with h5py.File(file, "w") as table:
        for name in "txyp":
            options = random.choice(({}, {"compression": "gzip"}))
            table.create_dataset(f"events/{name}", data=events[name], **options)
    return whole(file, events)


def mat_parts(random, events):
    """A MATLAB file with columns or rows, deflated or not, and another variable."""
    file, names = io.BytesIO(), random.choice(("txyp", ("ts", "x", "y", "pol")))
    variables = {name: events[field] for name, field in zip(names, "txyp", strict=True)}
    options = {
        "do_compression": random.random() < 0.5,
        "oned_as": random.choice(("row", "column")),
    }
    scipy.io.savemat(file, {"about": "a text", **variables}, **options)
    return whole(file, events)


def whole(file, events):
    """Parts of a file that damage anywhere may lose as a whole."""
    return [file.getvalue(), *[b""] * len(events)]


def csv_parts(random, events):
    """A table with columns in any order and any separator."""
    order = random.sample("txyp", 4)
    comma = random.choice((",", ";", "\t", " "))
    lines = [comma.join(str(int(event[n])) for n in order) for event in events]
    return [(line + "\n").encode() for line in (comma.join(order), *lines)]


def bag_parts(random, events):
    """A ROS bag with chunks of some events."""
    compression = random.choice(("none", "bz2", "lz4"))
    parts, held = [write_rosbag.bag(write_rosbag.connection())], b""
    for event, is_last in zip(events, events["t"] == events["t"][-1], strict=True):
        held += write_rosbag.message(np.array([event]), (480, 640))
        is_full = is_last or random.random() < 0.2
        parts.append(write_rosbag.chunk(held, compression) if is_full else b"")
        held = b"" if is_full else held
    # An event is whole where its chunk is.
    sizes = [len(part) for part in parts]
    for number in range(len(parts) - 2, 0, -1):
        if not sizes[number]:
            parts[number], parts[number + 1] = parts[number + 1], b""
            sizes[number], sizes[number + 1] = sizes[number + 1], 0
    return parts


def es_parts(random, events):
    """An Event Stream file of a DVS."""
    parts = [b"Event Stream" + bytes([2, 0, 0, 1]) + struct.pack("<2H", 640, 480)]
    for passed, x, y, p in zip(
        np.diff(events["t"], prepend=0),
        events["x"],
        events["y"],
        events["p"],
        strict=True,
    ):
        overflows, rest = divmod(passed, 127)
        pixel = struct.pack("<2H", x, 479 - y)
        parts.append(b"\xff" * overflows + bytes([rest << 1 | p]) + pixel)
    return parts


PARTS = {
    "npz": npz_parts,
    "hdf5": hdf5_parts,
    "mat": mat_parts,
    "csv": csv_parts,
    "bag": bag_parts,
    "es": es_parts,
}
