"""Fuzz the readers of recordings: mutated and generated files of every format.

Whatever a file holds: strict reading gives the whole events before the damage and then
a clear error; lenient reading gives the same events, and a warning with the same byte;
chunks of any size give the same; events before the first changed byte are those that
were written; time never runs backwards nor leaps; pixels are on the sensor; there are
no more events than bytes can hold; and frames count every event once.
"""

import functools
import io
import itertools
import struct
import sys
import warnings

import decode_evt
import fuzzing
import numpy as np
from made_recordings import PARTS, es_parts, write_evt21
from write_aedat4 import aedat4_header, aedat4_packet, aedat4_table

from keras_qkformer.events.aedat2 import write_aedat2
from keras_qkformer.events.aedat31 import write_aedat31
from keras_qkformer.events.byte_stream import (
    MAX_GAP_US,
    DamagedRecordingError,
    DamagedRecordingWarning,
)
from keras_qkformer.events.dat import write_dat
from keras_qkformer.events.event_array import EVENT_DTYPE, make_events
from keras_qkformer.events.evt2 import write_evt2
from keras_qkformer.events.evt3 import write_evt3
from keras_qkformer.events.frames import MAX_EMPTY_FRAMES, iter_frames
from keras_qkformer.events.nmnist import write_nmnist
from keras_qkformer.events.recording import iter_recording

# Sensor, bits of time, bytes per event; how often, as AEDAT 4 takes a process.
FORMATS = {
    "aedat2": ((128, 128), 32, 8, 20),
    "aedat31": ((1 << 15, 1 << 15), 40, 8, 30),
    "nmnist": ((34, 34), 23, 5, 20),
    "aedat4": ((128, 128), 60, 16, 1),
    "dat": ((1 << 14, 1 << 14), 32, 8, 20),
    "evt2": ((1 << 11, 1 << 11), 34, 4, 20),
    "evt3": ((1 << 11, 1 << 11), 34, 2, 30),
    "evt21": ((1 << 11, 1 << 11), 34, 8, 20),
    "npz": ((1 << 16, 1 << 16), 63, 13, 20),
    "npy": ((1 << 16, 1 << 16), 63, 13, 20),
    "mat": ((1 << 16, 1 << 16), 63, 13, 20),
    "csv": ((1 << 16, 1 << 16), 52, 8, 10),
    "bag": ((480, 640), 40, 13, 10),
    "es": ((480, 640), 16, 5, 20),
    "hdf5": ((1 << 16, 1 << 16), 60, 13, 1),
    "davis": ((260, 346), 32, 8, 20),
}
WRITERS = {
    "aedat2": write_aedat2,
    "nmnist": write_nmnist,
    "dat": write_dat,
    "evt2": write_evt2,
    "evt3": write_evt3,
    "evt21": write_evt21,
    "npy": np.save,
    "davis": functools.partial(write_aedat2, chip="DAVIS346"),
}
SLOWLY = {
    "evt2": decode_evt.evt2,
    "evt3": decode_evt.evt3,
    "evt21": decode_evt.evt21,
}
EXTREMES = (
    0,
    1,
    127,
    128,
    255,
    2**15,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)
END = b"% end\n"  # Of the header of RAW files.
LINES = (
    b"#",
    b"#\r",
    b"#!END-HEADER\r",
    b"#Format: LZ4\r",
    b"#" * 70_000,
    b"#\0",
    b"",
    b"% ",
    b"% " * 40_000,
)


def draw_events(random, name):
    """Events of a format, in order of time, mostly close to each other."""
    (height, width), bits, *_ = FORMATS[name]
    rng = np.random.default_rng(random.getrandbits(64))
    count = random.choice((1, 2, 7, 24, 60, 300))
    gap = random.choice((0, 3, 1000, 1 << 20))
    t = np.cumsum(rng.integers(0, gap, count, endpoint=True))
    room = (1 << bits) - 1 - int(t[-1])
    if room < 0:
        t, room = t % (1 << bits - 1), 0
        t.sort()
    # The start is zero, or such that an overflow is near, or anywhere.
    t += random.choice((0, min(room, max(0, 2**31 - 50)), random.randint(0, room)))
    x, y = rng.integers(0, width, count), rng.integers(0, height, count)
    return make_events(t, x, y, rng.random(count) < 0.5)


def write(random, name, events):
    """A file: its bytes, and of each event the byte behind it."""
    file = io.BytesIO()
    count, size = len(events), FORMATS[name][2]
    if name in WRITERS:
        WRITERS[name](file, events)
        content = file.getvalue()
        if name in SLOWLY:
            start = content.index(END) + len(END)
            return content, np.array([e[4] + start for e in slowly(name, content)])
        start = len(content) - size * count
        return content, start + size * np.arange(1, count + 1)
    if name in PARTS:
        parts = PARTS[name](random, events)
        content = b"".join(parts)
        ends = np.cumsum([len(part) for part in parts])
        # The first part is a header, and the last one may be what ends the file.
        return content, ends[1 : count + 1]
    packet = random.choice((1, 2, 5, 64))
    if name == "aedat31":
        write_aedat31(file, events, packet_events=packet)
        content = file.getvalue()
        new = np.flatnonzero(np.diff(events["t"] >> 31)) + 1
        runs = np.split(np.arange(count), new)
        parts = [
            run[a : a + packet] for run in runs for a in range(0, len(run), packet)
        ]
        start = len(content) - size * count - 28 * len(parts)
        headers = np.repeat(np.arange(1, len(parts) + 1), [len(part) for part in parts])
        return content, start + 28 * headers + size * np.arange(1, count + 1)
    content, ends = aedat4_header(), []
    for first in range(0, count, packet):
        part = events[first : first + packet]
        content += aedat4_packet(aedat4_table(part))
        ends += [len(content)] * len(part)  # Damage loses the whole packet.
    return content, np.array(ends)


def slowly(name, content):
    """What a slow decoder makes of the words behind the header of a RAW file."""
    return list(SLOWLY[name](content[content.index(END) + len(END) :]))


def mutate(random, content, other):
    """Change some bytes or parts; another file gives parts."""
    data = bytearray(content)
    for _ in range(random.randrange(1, 4)):
        head = min(len(data), 700 if b"AER-DAT4" in content[:20] else 150)
        place = random.randrange(random.choice((head, len(data))) + 1)
        size = random.choice((1, 2, 3, 4, 5, 8, 28, 100))
        match random.randrange(10):
            case 0:
                data[place : place + 1] = bytes([random.randrange(256)])
            case 1:
                data[place : place + size] = random.randbytes(size)
            case 2:
                del data[place : place + size]
            case 3:
                data[place:place] = random.randbytes(size)
            case 4:
                data[place:place] = data[place : place + size] * random.randrange(9)
            case 5:
                width = random.choice((1, 2, 4, 8))
                value = random.choice(EXTREMES) % 256**width
                order = random.choice(("little", "big"))
                data[place : place + width] = value.to_bytes(width, order)
            case 6:
                del data[place:]
            case 7:
                data[place : place + 1] = bytes(
                    [data[place - 1] ^ 1 << random.randrange(8)]
                )
            case 8:
                data[place:place] = other[random.randrange(len(other)) :]
            case 9:
                line = random.choice(LINES) + b"\n"
                place = data.find(b"\n") + 1
                data[place:place] = line * random.choice(
                    (1, 3, 1 + 10_000 // len(line))
                )
        if not data:
            break
    return bytes(data)


def generate(random, name):
    """A file with the first line of its format and fields drawn at random."""
    body = random.randbytes(random.choice((0, 3, 40, 400)))
    if name == "nmnist":
        return body
    if name in ("dat", "evt2", "evt3", "evt21"):
        head, _ = write(random, name, draw_events(random, name)[:0])
        return head + generate_words(random, name) + body[: random.randrange(9)]
    if name in PARTS or name in ("npy", "davis"):
        content, _ = write(random, name, draw_events(random, name))
        return content[: random.choice((20, 60, 200))] + body
    first = {"aedat2": b"#!AER-DAT2.0", "aedat31": b"#!AER-DAT3.1"}.get(name)
    if name == "aedat2":
        words = [(random.randrange(1 << 16), random.getrandbits(32)) for _ in range(9)]
        words.sort(key=lambda word: word[1])
        body = b"".join(struct.pack(">II", *word) for word in words) + body
    if name == "aedat31":
        first += b"\r\n#!END-HEADER"
        for _ in range(random.randrange(6)):
            number = random.choice((0, 1, 3))
            fields = [random.randrange(3), random.randrange(2), 8, 4]
            fields += [
                random.choice((0, 0, 1, 2**32 - 1)),
                number + random.randrange(2),
            ]
            fields += [number, random.randint(0, number)]
            content = random.randbytes(8 * fields[5])
            body = struct.pack("<HHIIIIII", *fields) + content + body
    if name == "aedat4":
        content = random.choice((body, aedat4_table(draw_events(random, name))))
        header = aedat4_header(
            (random.randrange(-1, 200), 128),
            cameras=range(random.randrange(3)),
            compression=random.randrange(6),
        )
        return header + aedat4_packet(content, random.randrange(-1, 3)) + body
    return first + b"\r\n" + body


def generate_words(random, name):
    """Words of mostly known kinds with any values, their high bits of time growing."""
    kinds = {
        "dat": (0, 1),
        "evt2": (0, 1, 8, 10, 14),
        "evt21": (0, 1, 8, 10, 14),
        "evt3": (0, 2, 3, 4, 5, 6, 8, 7),
    }
    words, high = [], random.choice((0, 4000))
    for _ in range(random.choice((3, 40, 400))):
        kind = random.choice((*kinds[name], random.randrange(16) if not words else 0))
        value = random.getrandbits(12 if name == "evt3" else 28)
        if name == "dat":
            words += [high, kind << 28 | value]
            high += random.randrange(999)
        elif kind == 8:
            high += random.randrange(1, 9)
            words.append(kind << (12 if name == "evt3" else 28) | high % 4096)
        else:
            words.append(kind << (12 if name == "evt3" else 28) | value)
        if name == "evt21":  # Its words have a lower half, which comes first.
            words.insert(-1, 0 if kind == 8 else random.getrandbits(32))
    return struct.pack(f"<{len(words)}{'H' if name == 'evt3' else 'I'}", *words)


def read(content, strict, name="a.bin", **options):
    """Events, and the error or the warning's message, or `None`."""
    events, damage = [np.empty(0, EVENT_DTYPE)], None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            for chunk in iter_recording(content, name=name, strict=strict, **options):
                assert 0 < len(chunk) <= options["chunk_events"]
                events.append(chunk)
        except DamagedRecordingError as error:
            assert strict
            damage = error
    if caught:
        assert not strict
        (warning,) = caught
        assert isinstance(warning.message, DamagedRecordingWarning)
        damage = warning.message
        assert damage.dropped_bytes == len(content) - damage.offset
    return np.concatenate(events), damage


def case(random, folder, names=tuple(FORMATS)):
    """One file: its format, and whether it was whole, cut or refused."""
    name = random.choices(names, [FORMATS[name][3] for name in names])[0]
    original = draw_events(random, name)
    content, ends = write(random, name, original)
    kind = random.randrange(10)
    damaged = content
    if kind == 1:
        content, damaged = b"", generate(random, name)
    elif kind:
        other, _ = write(random, name, draw_events(random, name))
        damaged = mutate(random, content, other)
    ending = check_damaged(random, name, original, ends, content, damaged)
    return f"{name} {ending}"


def check_damaged(
    random, name, original, ends, content, damaged, events_per_byte=1 / 5
):
    """Check all readings of a damaged file, of which `content` was the whole one.

    `content` is empty for a file that was generated. `ends` are the places behind each
    event of `original`. Returns whether the file is whole, cut or refused.
    """
    same = min(len(content), len(damaged))
    pair = (np.frombuffer(each[:same], "u1") for each in (content, damaged))
    differing = np.flatnonzero(np.not_equal(*pair))
    first = int(differing[0]) if len(differing) else same
    kept, damage = check_readings(random, name, damaged, events_per_byte)
    safe = int(np.searchsorted(ends, first, "right"))
    assert kept[:safe].tobytes() == original[:safe].tobytes()
    if content and damaged == content:
        assert damage is None and len(kept) == len(original)
    head = content[: content.find(END) + len(END)]
    if name in SLOWLY and damaged.startswith(head):
        expected = slowly(name, damaged)
        assert kept.tolist() == [event[:4] for event in expected[: len(kept)]]
        assert damage is not None or len(kept) == len(expected)
    check_frames_of(random, kept)
    if damage is None:
        return "whole"
    return "cut" if len(kept) else "refused"


def check_readings(random, name, content, events_per_byte):
    """Read in several ways, compare, and return the events and the damage."""
    sizes = random.sample((1, 2, 3, 7, 64, 1 << 16), 2)
    file = "a.csv" if name == "csv" else "a.bin"
    if name in ("aedat4", "hdf5"):  # Each reading takes a process.
        kept, damage = read(content, False, file, chunk_events=sizes[0])
        other, again = read(content, True, file, chunk_events=sizes[1])
    else:
        kept, damage = read(content, True, file, chunk_events=sizes[0])
        other, again = read(content, False, file, chunk_events=sizes[1])
        read(content, False, file, chunk_events=sizes[1], ordered=False)
    assert kept.tobytes() == other.tobytes()
    assert (damage is None) == (again is None)
    if damage is not None:
        assert damage.offset == again.offset
        assert 0 <= damage.offset <= len(content)
        text = str(damage)
        assert text.startswith(f"At byte {damage.offset}: ")
        assert text.isprintable() and len(text) < fuzzing.MOST_CHARACTERS
        assert "backtrace" not in text
    gaps = np.diff(kept["t"])
    assert (gaps >= 0).all()
    if not content.startswith(b"#!AER-DAT2"):  # It has events of no pixel in between.
        assert (gaps <= MAX_GAP_US).all()
    (height, width), *_ = FORMATS[name]
    # These formats state the sensor in parts that damage can reach.
    stated = {
        "aedat4": tuple(aedat4_header(compression=number) for number in range(5)),
        "es": es_parts(None, kept[:0])[0],
        "bag": b"!",
    }
    if content.startswith(stated.get(name, b"")):
        assert (kept["y"] < height).all() and (kept["x"] < width).all()
    # At most: an event of N-MNIST, which it is by its name if the first line is spoilt.
    # A vector of two bytes has 12.
    most = {"evt2": 1 / 4, "evt3": 6, "evt21": 4}
    most |= dict.fromkeys(("npz", "mat", "bag", "hdf5"), 1032)
    assert len(kept) <= len(content) * most.get(name, events_per_byte)
    return kept, damage


def check_frames_of(random, events):
    """Frames of any duration count each event once, or refuse a gap."""
    duration = random.choice((1, 1000, 50_000, 10**9, 1 << 62))
    events = events.copy()
    events["x"] = events["y"] = 0
    chunks = np.array_split(events, random.randrange(1, 5))
    frames = iter_frames(chunks, duration, (1, 1))
    try:
        total = sum(int(frame.sum()) for frame in itertools.islice(frames, 2000))
        is_whole = next(frames, None) is None
    except ValueError as error:
        assert f"at most {MAX_EMPTY_FRAMES} frames" in str(error)
        return
    assert total == len(events) if is_whole else total <= len(events)


def main(arguments=None):
    """Run the fuzzer; see `fuzzing.main`."""
    return fuzzing.main(case, arguments)


if __name__ == "__main__":
    sys.exit(main())
