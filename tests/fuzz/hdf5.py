"""Fuzz the reader of HDF5 part by part: layouts, filters, structures, other contents.

As `recordings.py`, but with knowledge of the format: files have the layouts of DSEC and
Metavision, of the oldest and the newest version, in chunks or not, with any filter;
numbers in headers, trees and heaps are damaged, and addresses changed for others; and
whole files hold what no camera writes. Decoders are forks, see `forked_decoder`.
"""

import io
import re
import struct
import sys

import fuzzing
import h5py
import numpy as np
from forked_decoder import forked_decoders
from fuzz import recordings
from fuzz.aedat4 import odd_number

from keras_qkformer.events import hdf5_file, hdf5_process

STRUCTURES = re.compile(
    rb"\x89HDF|TREE|SNOD|HEAP|GCOL|OHDR|OCHK|FRHP|FHDB|FHIB|BTHD|BTLF|BTIN|FAHD|FADB"
    rb"|EAHD|EAIB|EADB|FSHD|FSSE"
)
FILTERS = (
    {},
    {"compression": "gzip"},
    {"compression": "lzf"},
    {"compression": "gzip", "shuffle": True},
    {"fletcher32": True},
)
KINDS = {"t": ("i8", "u4", "f8"), "x": ("u2", "i4"), "y": ("u2",), "p": ("u1", "?")}


def decode(command, out):
    """What the process of a decoder does."""
    hdf5_process.MOST_SECONDS = 0  # In this fork alone: the second that has begun.
    path, time_unit, rows = command[-3:]
    hdf5_process.main(path, time_unit, int(rows), out)


def write(random, events):
    """A whole file, and the name of its layout."""
    file, layout = io.BytesIO(), random.choice(("dsec", "metavision"))
    options = dict(random.choice(FILTERS))
    if options or random.random() < 0.5:
        options["chunks"] = (random.choice((1, 7, 64, 1000)),)
        options["maxshape"] = (random.choice((None, len(events))),)
        if options["maxshape"][0]:
            options["chunks"] = (min(*options["chunks"], len(events)),)
    version = random.choice(("earliest", "latest"))
    with h5py.File(file, "w", libver=version) as table:
        if layout == "dsec":
            for name in random.sample("txyp", 4):
                kind = random.choice(KINDS[name])
                if (events[name] >= 2**32).any():
                    kind = "i8"
                values = events[name].astype(kind)
                table.create_dataset(f"events/{name}", data=values, **options)
            table["t_offset"] = np.int64(0)
        else:
            rows = np.empty(len(events), [(n, events.dtype[n]) for n in "xypt"])
            for name in "xypt":
                rows[name] = events[name]
            table.create_dataset("CD/events", data=rows, **options)
            table.attrs["geometry"] = "65536x65536"
    return file.getvalue(), layout


def change_numbers(random, content):
    """Numbers near the beginning of a structure that are others."""
    data = bytearray(content)
    starts = [match.start() for match in STRUCTURES.finditer(content)]
    for _ in range(random.randrange(1, 4)):
        if random.randrange(3):
            place = random.choice(starts) + random.randrange(4, 200)
        else:  # Headers of objects have no name in old versions.
            used = np.flatnonzero(np.frombuffer(content, "u1"))
            place = int(random.choice(used))
        width = random.choice((1, 2, 4, 8, 8))
        place -= place % width
        value = int.from_bytes(data[place : place + width], "little")
        data[place : place + width] = odd_number(random, value, width)
    return bytes(data)


def change_addresses(random, content):
    """Addresses that lead to other structures, back, or out of the file."""
    data = bytearray(content)
    places = [
        place
        for place in range(min(len(content), 4000) - 8)
        if 40 < int.from_bytes(content[place : place + 8], "little") < len(content)
    ]
    starts = [match.start() for match in STRUCTURES.finditer(content)]
    for place in random.choices(places, k=random.randrange(1, 4)):
        target = random.choice((*starts, place, random.randrange(len(content)), 2**63))
        data[place : place + 8] = struct.pack("<Q", target)
    return bytes(data)


def odd_file(random):
    """A whole file with what no camera writes."""
    file = io.BytesIO()
    with h5py.File(file, "w", libver=random.choice(("earliest", "latest"))) as table:
        events = table.create_group("events")
        length = random.choice((0, 3, 2**20, 2**40, 2**62))
        wrong = random.choice("txyp----")
        for name in "txyp":
            kinds = (
                ("c8", "S3", "(3,)u1", "V5") if name == wrong else ("u2", "i8", "f4")
            )
            events.create_dataset(
                name,
                (length,),
                random.choice(kinds),
                chunks=(min(max(length, 1), random.choice((1, 1000, 100_000))),),
                compression=random.choice((None, "gzip")),
            )
        match random.randrange(6):
            case 0:  # Long runs of zeros, where one number is stored or all are.
                zeros = np.zeros(random.choice((3, 2**12)), "u2")
                for name in "txyp":
                    del events[name]
                    events.create_dataset(name, data=zeros, compression="gzip")
                    events[name][: random.choice((1, len(zeros)))] = 0
            case 1:
                del events["p"]
                events["p"] = h5py.SoftLink(random.choice(("/events", "p", "/", "x")))
            case 2:
                events["again"] = table["/"]
                table["other"] = events
            case 3:
                table.attrs["geometry"] = random.choice(
                    ("9" * 9999, b"\xff" * 9, [1, 2], "640x480x3", "0x0", 3.5)
                )
            case 4:
                table["t_offset"] = random.choice(
                    (2**62, -(2**63), "a", [1, 2], 1.5, h5py.Empty("i8"))
                )
            case 5:
                kind = h5py.string_dtype()
                del events["x"]
                events["x"] = np.array(["a" * 99] * min(length, 5), kind)
    return file.getvalue()


def case(random, folder):
    """One file: its layout, and how that ended.

    It was whole, cut, refused, or said to need a filter, of a number that is damaged.
    """
    events = recordings.draw_events(random, "hdf5")
    content, layout = write(random, events)
    ends = np.full(len(events), len(content))  # Damage anywhere may lose all.
    match random.randrange(8):
        case 0:
            damaged = content
        case 1:
            damaged = recordings.mutate(random, content, content)
        case 2 | 3 | 4:
            damaged = change_numbers(random, content)
        case 5:
            damaged = change_addresses(random, content)
        case 6:
            other, _ = write(random, recordings.draw_events(random, "hdf5"))
            size = 8 * random.randrange(1, 20)
            place = random.randrange(0, len(content), 8)
            part = other[place : place + size]
            damaged = content[:place] + part + content[place + len(part) :]
        case 7:
            content, layout, damaged = b"", "odd", odd_file(random)
    try:
        with forked_decoders(random, hdf5_file.subprocess, decode):
            ending = recordings.check_damaged(
                random, "hdf5", events, ends, content, damaged
            )
    except ImportError as error:
        assert damaged != content and "The file is compressed with" in str(error)
        ending = "needs a filter"
    return f"{layout} {ending}"


def main(arguments=None):
    """Run the fuzzer; see `fuzzing.main`."""
    return fuzzing.main(case, arguments)


if __name__ == "__main__":
    sys.exit(main())
