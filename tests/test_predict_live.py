"""Live streams through a trained model: the answers of the file, or dropped frames."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from saved_presets import shallow_preset

from keras_qkformer.child_process import module_command, module_environment
from keras_qkformer.cli.main import main
from keras_qkformer.events.aedat31 import write_aedat31
from keras_qkformer.events.byte_stream import DamagedRecordingError
from keras_qkformer.events.event_array import make_events
from keras_qkformer.events.evt2 import write_evt2
from keras_qkformer.events.evt3 import write_evt3
from keras_qkformer.predict import SensorWarning, answers_to_frames, predict_stream
from keras_qkformer.predict_live import predict_live
from keras_qkformer.trained import TrainedModel, load_trained

COUNT = 3000
COMMAND = ("--stream", "-", "--frame-ms", "10")


@pytest.fixture(scope="module")
def model():
    return shallow_preset(image_size=(8, 12), in_channels=2, static=False)


def events_of(count=COUNT, length_us=100_000, size=(8, 12)):
    draw = np.random.default_rng(0).integers
    t = np.sort(draw(0, length_us + 1, count))
    t[[0, -1]] = 0, length_us
    height, width = size
    return make_events(t, draw(0, width, count), draw(0, height, count), t % 2)


def written(write=write_evt3, events=None, **options):
    file = io.BytesIO()
    write(file, events_of() if events is None else events, **options)
    return file.getvalue()


@pytest.fixture
def stdin(monkeypatch):
    """A function that puts a pipe of standard input and returns its other end."""
    files = []

    def make():
        reading, writing = os.pipe()
        files.extend(
            [open(reading, encoding="utf-8"), open(writing, "wb", buffering=0)]
        )
        monkeypatch.setattr(sys, "stdin", files[-2])
        return files[-1]

    yield make
    for file in files:
        file.close()


def asked(answers):
    return [answer.end_ms for answer in answers]


def assert_same(found, expected):
    assert asked(found) == asked(expected)
    for answer, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(answer.probabilities, other.probabilities)


@pytest.fixture
def slow_steps(monkeypatch):
    """Slows the model down, and collects the sums of the frames that it sees."""
    seen = []
    stream = TrainedModel.stream

    def slow(self):
        step, state = stream(self)

        def slow_step(frame, state):
            time.sleep(0.02)
            seen.append(frame)
            return step(frame, state)

        return slow_step, state

    monkeypatch.setattr(TrainedModel, "stream", slow)
    return seen


def test_answers_to_a_pipe_are_those_to_the_file(model):
    content = written()
    names, expected = predict_stream(model, content, 10.0)
    expected = list(expected)
    assert len(expected) == 10
    reading, writing = os.pipe()

    def write():
        with open(writing, "wb", buffering=0) as pipe:
            for start in range(0, len(content), 1001):
                pipe.write(content[start : start + 1001])

    writer = threading.Thread(target=write)
    writer.start()
    with open(reading, "rb") as source:
        live_names, answers = predict_live(model, source, 10.0, idle_s=60)
        with answers:
            found = list(answers)
    writer.join()
    assert live_names == names
    assert_same(found, expected)
    assert all(0 < a.latency_ms < a.delay_ms < 60_000 for a in found)
    summary = answers.summary()
    assert (summary.answers, summary.dropped, summary.events) == (10, 0, COUNT)
    assert (summary.format, summary.ended, summary.damage) == ("EVT 3.0", "end", "")
    assert max(a.delay_ms for a in found) == summary.max_delay_ms
    assert np.mean([a.delay_ms for a in found]) == pytest.approx(summary.mean_delay_ms)


@pytest.mark.backend_independent
def test_frames_are_dropped_as_a_whole_for_a_camera_that_is_too_fast(model, slow_steps):
    """Ten times too fast and more: what is answered is right for what was seen."""
    content = written(write_aedat31, events_of(length_us=600_000), packet_events=50)
    _, answers = predict_live(model, io.BytesIO(content), 10.0, drop=True)
    with answers:
        found = list(answers)
    seen = slow_steps[1:]  # The first is the one to compile.
    assert 0 < len(found) < 60 and found[-1].dropped == 60 - len(found)
    assert answers.summary().dropped == 60 - len(found)
    # The newest frame is never dropped, and none is seen in part or twice.
    trained = load_trained(model)
    _, whole = predict_stream(model, content, 10.0)
    assert found[-1].end_ms == asked(whole)[-1] == 600
    del slow_steps[:]
    list(predict_stream(model, content, 10.0)[1])
    frames = dict(zip(range(1, 61), slow_steps[1:], strict=True))
    numbers = [round(answer.end_ms / 10) for answer in found]
    assert numbers == sorted({*numbers})
    for number, frame in zip(numbers, seen, strict=True):
        np.testing.assert_array_equal(frame, frames[number])
    kept = [(number, frames[number][0]) for number in numbers]
    assert_same(found, list(answers_to_frames(trained, kept, 10_000)))


@pytest.mark.backend_independent
def test_a_writer_that_is_too_fast_is_slowed_down_without_drop(model, slow_steps):
    events = events_of(count=200_000)
    content = written(write_evt2, events)
    reading, writing = os.pipe()
    writer = threading.Thread(target=lambda: open_and_write(writing, content))
    writer.start()
    with open(reading, "rb") as source:
        _, answers = predict_live(model, source, 10.0)
        with answers:
            found = [next(answers)]
            assert writer.is_alive()
            found += list(answers)
    writer.join()
    assert answers.summary().dropped == 0
    assert_same(found, list(predict_stream(model, content, 10.0)[1]))


def open_and_write(place, content, mode="wb"):
    with open(place, mode) as file:
        file.write(content)


@pytest.mark.backend_independent
def test_a_delay_begins_when_the_last_event_of_a_frame_comes(model):
    events = events_of()
    cut = np.searchsorted(events["t"], 20_000)
    first, whole = written(write_evt2, events[:cut]), written(write_evt2, events)
    assert whole.startswith(first)
    reading, writing = os.pipe()
    with open(reading, "rb") as source, open(writing, "wb", buffering=0) as pipe:
        pipe.write(first)
        _, answers = predict_live(model, source, 10.0)
        with answers:
            early = next(answers)
            time.sleep(0.3)
            pipe.write(whole[len(first) :])
            second, third = next(answers), next(answers)
    # The second frame was here before the pause that kept it open; the third was not.
    assert min(early.delay_ms, third.delay_ms) + 290 < second.delay_ms
    assert answers.summary().ended == "closed"
    with pytest.raises(ValueError, match="closed file"):
        pipe.write(b"")


@pytest.mark.backend_independent
def test_damage_in_midstream_comes_after_the_answers_before_it(model):
    content = bytearray(written())
    content[len(content) // 2 | 1] = 0x1F  # No such word.
    content = bytes(content)
    expected, found = [], []
    with pytest.raises(DamagedRecordingError, match="a word of EVT") as whole:
        expected.extend(predict_stream(model, content, 10.0)[1])
    _, answers = predict_live(model, io.BytesIO(content), 10.0)
    with answers, pytest.raises(DamagedRecordingError) as error:
        found.extend(answers)
    assert str(error.value) == str(whole.value)
    assert_same(found, expected)
    assert answers.summary().ended == "damage"
    _, answers = predict_live(model, io.BytesIO(content), 10.0, strict=False)
    with answers:
        lenient = list(answers)
    assert_same(lenient[:-1], expected)  # What came of the frame after is one more.
    assert answers.summary().damage == str(whole.value)


@pytest.mark.backend_independent
def test_another_sensor_is_scaled_and_that_is_said(model):
    events = events_of(size=(16, 24))
    content = written(events=events, sensor_size=(16, 24))
    with pytest.warns(SensorWarning):
        expected = list(predict_stream(model, content, 10.0)[1])
    _, answers = predict_live(model, io.BytesIO(content), 10.0)
    with pytest.warns(SensorWarning, match="sensor of 16x24 .* with 8x12"), answers:
        assert_same(list(answers), expected)


@pytest.mark.backend_independent
def test_command_answers_a_growing_file_until_nothing_comes(model, tmp_path, capsys):
    path = tmp_path / "grows.raw"
    content = written()
    path.write_bytes(content[:5])
    line = ["predict", model, "--stream", str(path), "--follow", "--frame-ms=10"]
    writer = threading.Timer(0.1, lambda: open_and_write(path, content[5:], "ab"))
    writer.start()
    assert main([*line, "--idle=1", "--json"]) == 0
    writer.join()
    *found, last = map(json.loads, capsys.readouterr().out.splitlines())
    expected = list(predict_stream(model, content, 10.0)[1])
    assert [line["end_ms"] for line in found] == asked(expected)
    for line, answer in zip(found, expected, strict=True):
        assert line["classes"][0]["probability"] == answer.probabilities.max()
        assert line["delay_ms"] > line["latency_ms"] > 0 and line["dropped"] == 0
    assert last["summary"]["ended"] == "idle" and last["summary"]["events"] == COUNT


@pytest.mark.backend_independent
@pytest.mark.parametrize("drop", [False, True], ids=["wait", "drop"])
def test_command_answers_a_camera_over_tcp_that_is_too_fast(
    model, slow_steps, capsys, drop
):
    """A camera whose frames of 10 ms come at once, and a model that needs 20 ms."""
    content = written(write_evt2, events_of(length_us=200_000))
    expected = list(predict_stream(model, content, 10.0)[1])

    def write(server):
        connection, _ = server.accept()
        with connection:
            connection.sendall(content)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        writer = threading.Thread(target=write, args=[server])
        writer.start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        line = ["predict", model, "--stream", address, "--frame-ms=10", "--idle=60"]
        assert main([*line, "--json", *["--drop"] * drop]) == 0
        writer.join()
    *found, last = map(json.loads, capsys.readouterr().out.splitlines())
    told = {name: last["summary"][name] for name in ("ended", "events", "format")}
    assert told == {"ended": "end", "events": COUNT, "format": "EVT 2.0"}
    dropped = last["summary"]["dropped"]
    assert len(found) + dropped == len(expected) == 20
    assert (dropped > 0) is drop
    assert found[-1]["dropped"] == dropped
    # The newest frame is never dropped, and none is answered twice or out of turn.
    ends = [line["end_ms"] for line in found]
    assert ends[-1] == 200.0
    assert ends == sorted({*ends}) and {*ends} <= {*asked(expected)}
    if not drop:
        for line, answer in zip(found, expected, strict=True):
            assert line["classes"][0]["probability"] == answer.probabilities.max()


@pytest.mark.backend_independent
@pytest.mark.parametrize("cut", [0, 3, 40], ids=["empty", "header", "word"])
def test_a_writer_that_dies_is_told_in_one_line(model, stdin, capsys, cut):
    pipe = stdin()
    pipe.write(written()[:cut] if cut < 40 else written()[:-1])
    pipe.close()
    assert main(["predict", model, *COMMAND]) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    *answers, summary = said.out.splitlines()
    assert len(answers) == (9 if cut == 40 else 0)
    assert summary.startswith(f"{len(answers)} frames answered, 0 dropped, ")
    message = {
        0: "must have events. Received: ",
        3: "states no format",
        40: "2 bytes of an event",
    }
    assert message[cut] in said.err
    assert (", which ended'" in said.err) == (cut == 0)


@pytest.mark.backend_independent
def test_lenient_command_keeps_what_came_and_returns_1(model, stdin, capsys):
    pipe = stdin()
    pipe.write(written()[:-1])
    pipe.close()
    assert main(["predict", model, *COMMAND, "--lenient", "--csv"]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 11
    assert said.err.count("\n") == 1 and "the stream is damaged: At byte" in said.err


def test_each_answer_is_printed_at_once_and_ctrl_c_ends_with_a_summary(model):
    """As a camera's program writes: in real time, and for ever."""
    content = written()
    with subprocess.Popen(
        module_command("keras_qkformer", "predict", model, *COMMAND, "--json"),
        env=module_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        half = len(content) // 2
        process.stdin.write(content[:half])
        found = [json.loads(process.stdout.readline()) for _ in range(4)]
        assert [line["end_ms"] for line in found] == [10.0, 20.0, 30.0, 40.0]
        process.stdin.write(content[half : half + 4001])
        later = json.loads(process.stdout.readline())
        assert later["end_ms"] == 50.0
        process.send_signal(signal.SIGINT)
        *_, last = process.stdout.read().splitlines()
        assert process.wait(60) == 130
        summary = json.loads(last)["summary"]
        assert summary["ended"] == "closed" and summary["answers"] >= 5
        assert process.stderr.read().decode().endswith("keras-qkformer: interrupted\n")


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stream", "-"], "A live stream must have --frame-ms"),
        ([*COMMAND, "--follow"], "--follow must come with a file. Received: '-'"),
        (["--stream", "tcp:/host"], "argument --stream: must be a file that exists"),
        (["--stream", "udp://h:1"], "- for standard input, or tcp://HOST:PORT"),
        ([*COMMAND, "--columns", "txyp"], "--columns must come with a table"),
        (["--stream", "a.raw", "--drop"], "--drop must come with a live stream"),
        (["a.raw", "--idle", "3"], "--idle must come with a live stream"),
        (["--stream", "tcp://127.0.0.1:1", "--frame-ms=5"], "No connection to tcp://"),
    ],
    ids=str,
)
def test_mistake_is_one_line_and_status_2(
    model, arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.raw").write_bytes(written())
    try:
        status = main(["predict", model, *arguments])
    except SystemExit as error:
        status = error.code
    assert status == 2
    said = capsys.readouterr()
    assert (len(said.err.splitlines()), said.out) == (1, "")
    assert message in said.err
