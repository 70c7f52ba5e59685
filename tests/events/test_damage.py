"""Random recordings come back; random damage is an error or loses whole events.

What can be seen, and what cannot:

- A file is cut: seen, unless it ends between two events (AEDAT 2.0, N-MNIST) or two
  packets (AEDAT 3.1). The events in front of the cut are kept.
- Bytes are inserted or left out: seen only where an address, a time or a packet header
  becomes impossible. Until there, events behind the place may be wrong.
- Bytes are changed: seen only if an address or a pixel becomes impossible, time runs
  backwards, or a header contradicts itself. Else one event becomes another one.

No format has a checksum. So what always holds, and is tested: events in front of the
first changed byte are those that were written, and damage ends in a clear error or in
whole events.
"""

import io
import resource
import tracemalloc
import warnings

import numpy as np
import pytest

from keras_qkformer.events.aedat2 import read_aedat2, write_aedat2
from keras_qkformer.events.aedat31 import read_aedat31, write_aedat31
from keras_qkformer.events.byte_stream import (
    DamagedRecordingError,
    DamagedRecordingWarning,
)
from keras_qkformer.events.event_array import EVENT_DTYPE, make_events
from keras_qkformer.events.nmnist import read_nmnist, write_nmnist
from keras_qkformer.events.recording import iter_recording, read_recording

pytestmark = pytest.mark.backend_independent

# (write, read, sensor, bits of time, bytes per event)
FORMATS = {
    "aedat2": (write_aedat2, read_aedat2, (128, 128), 32, 8),
    "aedat31": (write_aedat31, read_aedat31, (1 << 15, 1 << 15), 63, 8),
    "nmnist": (write_nmnist, read_nmnist, (34, 34), 23, 5),
}
MUTATIONS = 7000  # Of each format.
each = pytest.mark.parametrize("name", FORMATS)


def random_recording(rng, name, count):
    """Events of any times and pixels of the format, and options to write them with."""
    _, _, (height, width), bits, _ = FORMATS[name]
    span = int(rng.choice([0, 100, 1 << 20, (1 << bits) - 1]))
    start = rng.integers(0, (1 << bits) - span)
    t = np.sort(start + rng.integers(0, span, count, endpoint=True))
    if name == "aedat2" and count:  # A fall of nearly 2^32 is an overflow.
        t = t - t[0] if rng.random() < 0.5 else t
    x, y = rng.integers(0, width, count), rng.integers(0, height, count)
    events = make_events(t, x, y, rng.random(count) < 0.5)
    packets = {"packet_events": int(rng.integers(1, 9))} if name == "aedat31" else {}
    return events, packets


def written(name, events, **options):
    file = io.BytesIO()
    FORMATS[name][0](file, events, **options)
    return file.getvalue()


@each
def test_any_recording_comes_back_in_chunks_of_any_size(name):
    rng = np.random.default_rng(1)
    for _ in range(300):
        count = int(rng.integers(name == "nmnist", 40))
        events, options = random_recording(rng, name, count)
        content = written(name, events, **options)
        # Times are drawn from all that the format can hold.
        back = FORMATS[name][1](content, max_gap_us=None)
        np.testing.assert_array_equal(back, events)
        size = int(rng.integers(1, 50))
        chunks = list(
            iter_recording(content, name="a.bin", chunk_events=size, max_gap_us=None)
        )
        assert all(0 < len(chunk) <= size for chunk in chunks)
        joined = np.concatenate([np.empty(0, EVENT_DTYPE), *chunks])
        np.testing.assert_array_equal(joined, events)


def damage(rng, content):
    """A damaged copy, and the first byte that differs."""
    place = int(rng.integers(0, len(content)))
    if rng.random() < 0.3:  # Headers are short: hit them more often.
        place = int(rng.integers(0, min(len(content), 120)))
    size = int(rng.choice([1, 2, 3, 4, 8, 28]))
    noise = rng.integers(0, 256, size, "u1").tobytes()
    kind = rng.integers(0, 6)
    if kind == 0:
        changed = bytes([content[place] ^ 1 << int(rng.integers(0, 8))])
        damaged = content[:place] + changed + content[place + 1 :]
    elif kind == 1:
        damaged = content[:place]
    elif kind == 2:
        damaged = content[:place] + noise + content[place:]
    elif kind == 3:
        damaged = content[:place] + content[place + size :]
    elif kind == 4:
        damaged = content[:place] + noise + content[place + size :]
    else:  # An absurd number, such as the size of a packet.
        absurd = rng.choice([b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0"])
        damaged = content[:place] + bytes(absurd) + content[place + 4 :]
    same = min(len(content), len(damaged))
    differing = np.flatnonzero(
        np.frombuffer(content[:same], "u1") != np.frombuffer(damaged[:same], "u1")
    )
    return damaged, int(differing[0]) if len(differing) else same


def whole_events(name, content, events, options, first):
    """How many events end in front of a byte."""
    size = FORMATS[name][4]
    if name != "aedat31":
        start = len(content) - size * len(events)
        return max(0, first - start) // size
    packets = -(-len(events) // options["packet_events"])
    start = len(content) - size * len(events) - 28 * packets
    count = 0
    for begin in range(0, len(events), options["packet_events"]):
        number = min(options["packet_events"], len(events) - begin)
        start += 28
        count += min(max(0, first - start) // size, number)
        start += number * size
    return count


@each
def test_damage_ends_in_a_clear_error_or_in_whole_events(name):
    read = FORMATS[name][1]
    rng = np.random.default_rng(2)
    seen = 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(MUTATIONS):
            if number % 100 == 0:
                # One overflow at most: packets of several would be split.
                events, options = random_recording(rng, name, 24)
                if name == "aedat31":
                    events["t"] %= 1 << 31
                    events.sort(order="t")
                content = written(name, events, **options)
            damaged, first = damage(rng, content)
            caught.clear()
            error = None
            try:
                strict = read(damaged)
            except DamagedRecordingError as caught_error:
                error = caught_error
                assert 0 <= error.offset <= len(damaged)
                assert str(error).startswith(f"At byte {error.offset}: ")
                seen += 1
            lenient = read(damaged, strict=False)
            assert lenient.dtype == EVENT_DTYPE
            assert len(lenient) <= len(damaged) // FORMATS[name][4]
            if error is None:
                assert not caught
                assert strict.tobytes() == lenient.tobytes()
            else:
                (warning,) = caught
                assert isinstance(warning.message, DamagedRecordingWarning)
                assert warning.message.offset == error.offset
                assert warning.message.dropped_bytes == len(damaged) - error.offset
            # What lies in front of the damage is what was written.
            safe = whole_events(name, content, events, options, first)
            assert lenient[:safe].tobytes() == events[:safe].tobytes()
    # Read in blocks of a mebibyte, whatever sizes a header claims: KiB on Linux.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 32 << 10
    # Most damage is seen in the two formats that have headers or spare bits.
    assert seen > MUTATIONS * {"aedat2": 0.4, "aedat31": 0.4, "nmnist": 0.4}[name]


def test_damage_that_no_format_shows_turns_one_event_into_another():
    events = make_events([10, 20], [3, 4], [5, 6], [True, False])
    content = bytearray(written("aedat2", events))
    content[-6] ^= 2  # Bit 9 of the address of the last event: its row.
    changed = read_aedat2(bytes(content))
    assert changed[0] == events[0]
    assert (changed[1]["t"], changed[1]["x"]) == (20, 4)
    assert changed[1]["y"] != 6


@pytest.mark.parametrize("capacity", [2**31 - 1, 2**32 - 1])
def test_absurd_packet_sizes_cost_no_memory(capacity):
    content = written("aedat31", make_events([1], [2], [3], [1]))
    head = content[: len(content) - 36]
    packet = np.array([1 << 16 | 1, 8, 4, 0, capacity, capacity, capacity], "<u4")
    damaged = head + packet.tobytes() + content[-8:]
    tracemalloc.start()
    with pytest.raises(DamagedRecordingError, match="expected a packet up to byte"):
        read_aedat31(damaged)
    with pytest.warns(DamagedRecordingWarning):
        (event,) = read_aedat31(damaged, strict=False)
    assert event.item() == (1, 2, 3, True)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_chunks_bound_the_memory_of_long_recordings(tmp_path):
    path = tmp_path / "long.aedat"
    events = make_events(np.arange(400_000), *np.zeros((3, 400_000), "u1"))
    write_aedat2(path, events)
    tracemalloc.start()
    count = sum(map(len, iter_recording(path, chunk_events=4096)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 400_000
    assert peak < 4 << 20  # The file has 3.2 MB, its events 5.2 MB.


@each
def test_other_things_than_files_are_refused(name):
    read = FORMATS[name][1]
    with pytest.raises(TypeError, match=r"binary file object\. Received: 3"):
        read(3)
    with pytest.raises(TypeError, match="binary mode"):
        read(io.StringIO("#!AER-DAT2.0"))
    with pytest.raises(FileNotFoundError):
        read_recording("none.aedat")
