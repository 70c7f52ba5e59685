"""Recordings that are read while they are written: the same events and frames."""

import io
import os
import random
import socket
import struct
import threading
import time

import made_recordings
import numpy as np
import pytest

from keras_qkformer.events.aedat2 import write_aedat2
from keras_qkformer.events.aedat31 import write_aedat31
from keras_qkformer.events.byte_stream import DamagedRecordingError, Details
from keras_qkformer.events.dat import write_dat
from keras_qkformer.events.event_array import EVENT_DTYPE, make_events
from keras_qkformer.events.evt2 import write_evt2
from keras_qkformer.events.evt3 import write_evt3
from keras_qkformer.events.frames import events_to_frames_by_duration, iter_frames
from keras_qkformer.events.live import Ahead, LiveBytes
from keras_qkformer.events.npz_file import write_npz
from keras_qkformer.events.recording import FORMATS, iter_recording, read_recording

pytestmark = pytest.mark.backend_independent

SIZE = (20, 40)


def events_of(count=150, seed=0):
    draw = np.random.default_rng(seed).integers
    t = np.sort(draw(0, 30_000, count))
    return make_events(t, draw(0, 40, count), draw(0, 20, count), draw(0, 2, count))


EVENTS = events_of()


def written(write, events=EVENTS, **options):
    file = io.BytesIO()
    write(file, events, **options)
    return file.getvalue()


def network(events=EVENTS):
    """What cAER sends over a connection: its own header, then packets."""
    packets = written(write_aedat31, events, packet_events=7).partition(
        b"END-HEADER\r\n"
    )
    magic = struct.pack("<QQbbh", 0x1D378BC90B9A6658, 0, 1, 0, 1)
    special = struct.pack("<HHIIIIIIII", 0, 1, 8, 4, 0, 1, 1, 1, 1, 5)
    return magic + special + packets[2]


def bare_evt21(events=EVENTS):
    """EVT 2.1 whose header does not tell the order of the halves: legacy here."""
    _, _, words = written(made_recordings.write_evt21, events).partition(b"% end\n")
    halves = np.frombuffer(words, "<u4").reshape(-1, 2)[:, ::-1]
    return b"% evt 2.1\n% end\n" + halves.tobytes()


CONTENTS = {
    "aedat2": written(write_aedat2),
    "davis": written(write_aedat2, chip="DAVIS240"),
    "aedat31": written(write_aedat31, packet_events=7),
    "caer": network(),
    "evt2": written(write_evt2),
    "evt21": written(made_recordings.write_evt21),
    "evt21 bare": bare_evt21(),
    "evt3": written(write_evt3, sensor_size=(30, 50)),
    "dat": written(write_dat),
    "es": b"".join(made_recordings.es_parts(random.Random(0), EVENTS)),
}
each = pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)


class Drip(io.RawIOBase):
    """A file that gives 1 to 7 bytes at a time, as a slow writer's pipe does."""

    def __init__(self, content, seed=0):
        self._content = io.BytesIO(content)
        self._random = random.Random(seed)
        self.taken = 0

    def read(self, size):
        block = self._content.read(min(size, self._random.randint(1, 7)))
        self.taken += len(block)
        return block


def answer(source, **options):
    """Events, what is wrong behind them, and the details."""
    found, wrong, details = [np.empty(0, EVENT_DTYPE)], None, Details()
    try:
        found.extend(iter_recording(source, details=details, **options))
    except DamagedRecordingError as error:
        wrong = str(error)
    # Behind damage, a block's other entries may have been counted, or not.
    skipped = None if wrong else +details.skipped
    events = np.concatenate(found).tolist()
    return events, wrong, details.format, details.sensor_size, skipped


@each
@pytest.mark.parametrize("seed", range(3))
def test_bytes_that_come_a_few_at_a_time_are_those_of_the_file(content, seed):
    drip = iter_recording(Drip(content, seed), live=True)
    size = (480, 640) if content == CONTENTS["es"] else SIZE
    frames = list(iter_frames(drip, 700, size, live=True))
    events = read_recording(content)
    assert len(events) == len(EVENTS)
    expected = events_to_frames_by_duration(events, 700, size)
    assert len(frames) == len(expected) == 43
    for frame, whole in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame, whole)


@each
def test_damage_is_told_as_of_the_file_however_the_bytes_come(content):
    """Cut anywhere, in the header too, or with some wrong bytes."""
    rng = random.Random(1)
    endings = set()
    for seed in range(20):
        changed = bytearray(content)
        if seed % 2:
            del changed[rng.randrange(len(changed)) :]
        else:
            for _ in range(rng.randint(1, 3)):
                place = rng.randrange(len(changed))
                changed[place] ^= rng.randrange(1, 256)
        expected = answer(bytes(changed), live=True)
        assert answer(Drip(bytes(changed), seed), live=True) == expected
        endings.add(expected[1] is None)
    assert False in endings


@each
def test_every_event_comes_before_more_bytes_are_asked_for(content):
    """No event waits for others that may never come."""
    whole = read_recording(content)
    arrived = []
    drip = Drip(content)
    for chunk in iter_recording(drip, live=True):
        arrived += [drip.taken] * len(chunk)
    assert len(arrived) == len(whole)
    if content != CONTENTS["evt21 bare"]:  # Its order of halves is found first.
        # The first event is there before a tenth of all bytes behind the header are.
        assert arrived[0] < len(content) - 0.9 * (len(content) - 120)
    # Most come with at most the bytes of a few more.
    assert len(set(arrived)) > len(whole) // 8 or content == CONTENTS["evt21 bare"]


def test_formats_that_need_the_whole_file_are_refused():
    assert sum(form.is_live for form in FORMATS) == 7
    with pytest.raises(
        ValueError, match=r"must be of AEDAT 2\.0, .* Received: NumPy's"
    ):
        list(iter_recording(written(write_npz), live=True))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"#!AER-DAT3.1\r\n" + b"#" * 70_000, "a line of text of at most 64 KiB"),
        (b"#!AER-DAT2.0\r\n" + b"# endless\r\n" * 100_000, "header of at most 1 MiB"),
        (b"% evt 3.0\n" + b"% k v\n" * 180_000, "header of at most 1 MiB"),
        (network()[:17] + b"\x02" + network()[18:], "version 1 and format 0 .RAW."),
        (network()[:15], "expected 20 bytes of a network header"),
        (b"nonsense" * 1000, "expected '#!AER-DAT' and a version"),
    ],
    ids=["line", "header", "evt header", "compressed", "cut", "nonsense"],
)
def test_hostile_starts_end_in_one_line(content, said):
    def endless():
        yield content
        while True:
            yield content[-1000:]

    class Endless(io.RawIOBase):
        pieces = endless() if len(content) > 1000 else iter([content, b""])

        def read(self, size):
            return next(self.pieces)

    with pytest.raises(DamagedRecordingError, match=said) as error:
        list(iter_recording(Endless(), live=True))
    assert len(str(error.value)) < 1000


def test_a_pipe_is_read_as_it_is_written_and_its_end_is_told():
    reading, writing = os.pipe()
    with open(reading, "rb") as source, LiveBytes(source, idle_s=30) as file:
        os.write(writing, b"abc")
        assert file.read(100) == b"abc"
        before = file.arrived
        assert time.monotonic() - before < 10
        os.write(writing, b"defg")
        assert file.read(2) == b"de"
        assert file.read(100) == b"fg"
        assert before <= file.arrived <= time.monotonic()
        assert not file.ended and file.received == 7
        os.close(writing)
        assert file.read(100) == b"" and file.ended == "end"


def test_silence_ends_a_pipe_only_if_that_was_asked_for():
    reading, writing = os.pipe()
    with open(reading, "rb") as source, LiveBytes(source, idle_s=0.05) as file:
        start = time.monotonic()
        assert file.read(100) == b"" and file.ended == "idle"
        assert 0.04 < time.monotonic() - start < 10
    reading, second = os.pipe()
    with open(reading, "rb") as source, LiveBytes(source) as file:
        threading.Timer(0.05, file.close).start()
        assert file.read(100) == b"" and file.ended == "closed"
    os.close(writing)
    os.close(second)


def test_a_growing_file_is_followed_from_its_start(tmp_path):
    path = tmp_path / "grows.raw"
    path.write_bytes(b"abc")
    with LiveBytes(path, idle_s=0.1) as file, path.open("ab") as more:
        assert file.read(2) == b"ab" and file.read(9) == b"c"
        threading.Timer(0.03, lambda: (more.write(b"de"), more.flush())).start()
        assert file.read(9) == b"de"
        assert file.read(9) == b"" and file.ended == "idle"
    with LiveBytes(path) as file:
        file.read(9)
        os.truncate(path, 2)
        with pytest.raises(ValueError, match=r"must not shrink\. Received: 2 bytes af"):
            file.read(9)
    with LiveBytes(path) as file:
        file.read(9)
        threading.Timer(0.03, file.close).start()
        assert file.read(9) == b"" and file.ended == "closed"


def test_a_server_is_read_over_tcp():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with LiveBytes(f"tcp://127.0.0.1:{port}", idle_s=30) as file:
            connection, _ = server.accept()
            with connection:
                connection.sendall(network())
            assert read_recording(file).tolist() == EVENTS.tolist()
            assert file.ended == "end"
    with pytest.raises(OSError, match=f"No connection to tcp://127.0.0.1:{port}"):
        LiveBytes(f"tcp://127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["tcp://", "tcp://host", "tcp://host:99999"])
def test_an_address_that_is_none_is_an_error(address):
    with pytest.raises(ValueError, match=r"must be tcp://HOST:PORT\. Received"):
        LiveBytes(address)


@pytest.mark.parametrize("idle_s", [0, -1, float("nan"), float("inf")])
def test_idle_time_out_of_range_is_an_error(idle_s):
    with pytest.raises(ValueError, match="idle_s must be above 0 seconds"):
        LiveBytes(io.BytesIO(), idle_s)


def test_what_is_made_ahead_waits_or_is_dropped_as_a_whole():
    made = []

    def numbers():
        for number in range(20):
            made.append(number)
            yield number

    ahead = Ahead(numbers())
    time.sleep(0.05)
    assert len(made) <= 3  # Two wait, and one is at hand.
    assert list(ahead) == list(range(20)) and ahead.dropped == 0
    dropping = Ahead(iter(range(20)), drop=True)
    while not dropping.dropped == 19:
        time.sleep(0.001)
    assert list(dropping) == [19]  # Never an older one.


def test_an_error_ahead_comes_after_what_was_made_before():
    def fails():
        yield 1
        yield 2
        raise ValueError("the third")

    ahead = Ahead(fails())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(ahead)
    assert next(ahead, None) is None


def test_stopping_ends_a_thread_that_waits():
    before = threading.active_count()
    ahead = Ahead(iter(range(20)))
    next(ahead)
    ahead.stop()
    assert threading.active_count() == before
    assert list(ahead) == []
