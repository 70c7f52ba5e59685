"""A recording through a trained model, frame by frame, and the command for it."""

import json
import shutil
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import shared_file
from model_harness import TINY, compiled, settle

from keras_qkformer.cli.main import main
from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.events.aedat2 import write_aedat2
from keras_qkformer.events.aedat31 import write_aedat31
from keras_qkformer.events.event_array import make_events
from keras_qkformer.events.evt3 import write_evt3
from keras_qkformer.events.frames import (
    events_to_frames,
    events_to_frames_by_duration,
)
from keras_qkformer.events.nmnist import write_nmnist
from keras_qkformer.events.recording import read_recording
from keras_qkformer.manifest import write_manifest
from keras_qkformer.models import QKFormerBackbone, QKFormerClassifier
from keras_qkformer.predict import SensorWarning, predict_stream
from keras_qkformer.trained import load_trained

NAMES = ["clap", "wave", "drum"]


def metadata_of(model, **values):
    """Metadata as `fit` writes it: counts stay what they are."""
    channels = model.backbone.in_channels
    preprocessing = Preprocessing(
        model.backbone.image_size, (0.0,) * channels, (1.0,) * channels, 1.0
    )
    values = {"preprocessing": preprocessing.to_dict(), **values}
    return {"class_names": NAMES, **values}


def save_model(folder, **changes):
    arguments = {**TINY, "static": False, "image_size": (8, 12), **changes}
    model = settle(QKFormerClassifier(QKFormerBackbone(**arguments), len(NAMES)))
    model.save_to_preset(folder, metadata_of(model))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a preset folder of events, one of images, and recordings."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("stream")
    save_model(folder / "events")
    save_model(folder / "images", static=True)
    draw = np.random.default_rng(0).integers
    t = np.sort(draw(0, 90_001, 4000))
    t[[0, -1]] = 0, 90_000
    events = make_events(t, draw(0, 12, 4000), draw(0, 8, 4000), draw(0, 2, 4000))
    write_aedat31(folder / "whole.aedat", events)
    write_aedat31(folder / "empty.aedat", events[:0])
    events["x"][2000] = 12
    write_aedat31(folder / "wide.aedat", events)
    (folder / "text.aedat").write_text("no recording")
    (folder / "whole.png").write_text("no image")
    return folder


@pytest.mark.parametrize(("frame_ms", "count"), [(None, 3), (20.0, 5)])
def test_answers_are_those_of_the_whole_model_on_the_same_frames(
    folder, frame_ms, count
):
    start = time.monotonic()
    names, answers = predict_stream(folder / "events", folder / "whole.aedat", frame_ms)
    answers = list(answers)
    elapsed_ms = 1e3 * (time.monotonic() - start)
    assert names == NAMES
    length = frame_ms or 90 / 3
    assert [a.end_ms for a in answers] == [length * (i + 1) for i in range(count)]
    frames = events_to_frames_by_duration(
        read_recording(folder / "whole.aedat"), int(1000 * length), (8, 12)
    )
    model = QKFormerClassifier.from_preset(folder / "events", time_steps=count)
    logits = compiled(model)(frames[None])
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]
    np.testing.assert_allclose(answers[-1].probabilities, expected, atol=1e-4)
    # No model answers within 50 microseconds.
    assert all(0.05 < answer.latency_ms < elapsed_ms for answer in answers)


@pytest.mark.parametrize(
    ("named", "sensor"), [((16, 24), (16, 24)), (None, (128, 128))]
)
def test_frames_are_counted_on_the_sensor_and_then_resized(tmp_path, named, sensor):
    """As training does: a model of 8x12 pixels may look at a larger sensor."""
    model = save_model(tmp_path / "model")
    preprocessing = Preprocessing((8, 12), (0.2, 0.1), (0.5, 0.25), 2.0)
    recipe = {"data": {"sensor_size": named, "frames_by": None}}
    values = {"preprocessing": preprocessing.to_dict(), "recipe": recipe}
    model.save_to_preset(tmp_path / "model", metadata_of(model, **values))
    draw = np.random.default_rng(1).integers
    t = np.sort(draw(0, 60_001, 4000))
    t[[0, -1]] = 0, 60_000
    x, y = draw(0, sensor[1], 4000), draw(0, sensor[0], 4000)
    events = make_events(t, x, y, draw(0, 2, 4000))
    write_aedat31(tmp_path / "wide.aedat", events)
    _, answers = predict_stream(tmp_path / "model", tmp_path / "wide.aedat")
    frames = events_to_frames_by_duration(events, 20_000, sensor)
    assert frames.shape == (3, *sensor, 2)
    small = tf.image.resize(frames, (8, 12), antialias=True).numpy()
    inputs = (small / 2 - [0.2, 0.1]) / [0.5, 0.25]
    logits = compiled(model)(inputs[None].astype("float32"))
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]
    *_, last = answers
    np.testing.assert_allclose(last.probabilities, expected, atol=1e-4)
    trained = load_trained(tmp_path / "model")
    np.testing.assert_allclose(trained.predict([frames])[0], expected, atol=1e-4)


@pytest.mark.backend_independent
def test_a_recording_without_a_header_may_be_of_any_sensor(tmp_path):
    """N-MNIST names no sensor; pixels outside the expected one are damage."""
    recipe = {"data": {"sensor_size": [40, 48], "frames_by": "number"}}
    model = save_model(tmp_path / "model")
    model.save_to_preset(tmp_path / "model", metadata_of(model, recipe=recipe))
    draw = np.random.default_rng(2).integers
    t, x, y = np.arange(300) * 100, draw(0, 48, 300), draw(0, 40, 300)
    events = make_events(t, x, y, draw(0, 2, 300))
    write_nmnist(tmp_path / "a.bin", events)
    frames = events_to_frames_by_duration(events, 10_000, (40, 48))
    trained = load_trained(tmp_path / "model")
    read, expected = trained.predict([tmp_path / "a.bin", frames])
    np.testing.assert_allclose(read, expected, atol=1e-5)
    _, answers = predict_stream(tmp_path / "model", tmp_path / "a.bin", 10.0)
    *_, last = answers
    np.testing.assert_allclose(last.probabilities, expected, atol=1e-4)


@pytest.mark.backend_independent
@pytest.mark.parametrize("is_stated", [True, False])
def test_a_recording_of_another_sensor_is_scaled_and_that_is_said(
    folder, tmp_path, capsys, is_stated
):
    draw = np.random.default_rng(3).integers
    t, x, y = np.arange(300) * 100, draw(0, 24, 300), draw(0, 16, 300)
    x[0], y[0] = 23, 15
    events = make_events(t, x, y, draw(0, 2, 300))
    path, options = tmp_path / "large.raw", []
    if is_stated:
        write_evt3(path, events, sensor_size=(16, 24))
    else:
        write_aedat31(path, events)
        stream = ["predict", str(folder / "events"), "--stream", str(path)]
        assert main(stream) == 2
        said = capsys.readouterr().err
        assert "on a sensor of 8x12 pixels" in said
        assert "another sensor, here of at least 16x24 pixels" in said
        assert "predict with --sensor-size" in said
        options = ["--sensor-size", "16x24"]
    size = (16, 24) if options else None
    with pytest.warns(SensorWarning, match="sensor of 16x24 .* with 8x12 .* 8x12"):
        _, answers = predict_stream(folder / "events", path, 10.0, sensor_size=size)
    *_, last = answers
    frames = events_to_frames_by_duration(events, 10_000, (16, 24))
    expected = load_trained(folder / "events").predict([frames])[0]
    np.testing.assert_allclose(last.probabilities, expected, atol=1e-4)
    if is_stated:
        return
    assert main([*stream, *options, "--frame-ms=10"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 4
    assert said.err.startswith("The recording is of a sensor of 16x24 pixels")


@pytest.mark.backend_independent
def test_files_of_another_sensor_are_scaled_too_and_that_is_said_once(
    folder, tmp_path, capsys
):
    draw = np.random.default_rng(4).integers
    t, x, y = np.arange(300) * 100, draw(0, 24, 300), draw(0, 16, 300)
    x[0], y[0] = 23, 15
    events = make_events(t, x, y, draw(0, 2, 300))
    paths = [tmp_path / name for name in ("a.raw", "b.raw")]
    for path in paths:
        write_evt3(path, events, sensor_size=(16, 24))
    trained = load_trained(folder / "events")
    with pytest.warns(SensorWarning, match="sensor of 16x24 .* with 8x12 .* 8x12"):
        frames = trained.read(paths[0])
    np.testing.assert_array_equal(frames, events_to_frames(events, 3, (16, 24)))
    command = ["predict", str(folder / "events")]
    assert main([*command, *map(str, paths), "--json"]) == 0
    said = capsys.readouterr()
    assert said.err.count("The recording is of a sensor of 16x24 pixels") == 1
    probability = trained.predict([frames])[0].max()
    for line in said.out.splitlines():
        (found,) = json.loads(line)["classes"]
        np.testing.assert_allclose(found["probability"], probability, atol=1e-4)
    write_aedat31(tmp_path / "unstated.aedat", events)
    command.append(str(tmp_path / "unstated.aedat"))
    assert main(command) == 2
    assert "at least 16x24 pixels, needs its size" in capsys.readouterr().err
    assert main([*command, "--sensor-size", "16x24", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["classes"]
    np.testing.assert_allclose(found["probability"], probability, atol=1e-4)
    save_model(tmp_path / "images", static=True, in_channels=3)
    images = load_trained(tmp_path / "images")
    with pytest.raises(ValueError, match=r"recording\. Received: \[\(16, 24\)\] for"):
        images.read("a.png", sensor_size=(16, 24))


@pytest.mark.backend_independent
def test_a_model_of_voxel_grids_has_no_stream(tmp_path):
    recipe = {"data": {"sensor_size": None, "frames_by": "voxel"}}
    model = save_model(tmp_path)
    model.save_to_preset(tmp_path, metadata_of(model, recipe=recipe))
    with pytest.raises(ValueError, match=r"counted events.*frames_by='voxel'"):
        predict_stream(tmp_path, "recording.aedat")


def test_recordings_are_turned_as_those_of_the_training(folder, tmp_path, capsys):
    shutil.copytree(folder / "events", tmp_path / "transposed")
    path = tmp_path / "transposed" / "metadata.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({**metadata, "orientation": "spikingjelly"}))
    write_manifest(path.parent)
    events = read_recording(folder / "whole.aedat")
    write_aedat2(tmp_path / "upright.aedat", events)
    write_aedat2(tmp_path / "sideways.aedat", events, orientation="spikingjelly")

    def ask(model, recording, *options):
        stream = str(tmp_path / recording)
        status = main(["predict", str(model), "--stream", stream, "--top=3", *options])
        return status, capsys.readouterr().out.splitlines()[-1:]

    status, (upright,) = ask(folder / "events", "upright.aedat")
    assert status == 0
    expected = 0, [upright.replace("upright", "sideways")]
    assert ask(tmp_path / "transposed", "sideways.aedat") == expected
    option = "--orientation=spikingjelly"
    assert ask(folder / "events", "sideways.aedat", option) == expected
    # Of 12x8 pixels, those on the side don't fit.
    assert ask(folder / "events", "sideways.aedat")[0] == 2


def test_orientation_of_the_metadata_exchanges_rows_and_columns(folder, tmp_path):
    """Known value: the frames that the model sees, made of the raw addresses.

    An address has the row from bit 8 on and the column from bit 1 on, both counted
    from the other end of 128 pixels, and bit 0 clear for ON.
    """
    shutil.copytree(folder / "events", tmp_path / "model")
    path = tmp_path / "model" / "metadata.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({**metadata, "orientation": "spikingjelly"}))
    write_manifest(path.parent)
    # A bar along the left border of 8x12 pixels, if upright; it fits sideways too.
    rng = np.random.default_rng(5)
    frame = np.repeat([0, 1, 2], 200)
    row, column = rng.integers(0, 8, 600), np.zeros(600, int)
    is_on = rng.integers(0, 4, 600) > 0
    words = np.empty((600, 2), ">u4")
    words[:, 0] = (127 - row) << 8 | (127 - column) << 1 | ~is_on
    words[:, 1] = 30_001 * frame
    (tmp_path / "a.aedat").write_bytes(b"#!AER-DAT2.0\r\n" + words.tobytes())
    upright, sideways = np.zeros((2, 1, 3, 8, 12, 2), "float32")
    np.add.at(upright, (0, frame, row, column, is_on.astype(int)), 1)
    np.add.at(sideways, (0, frame, column, row, is_on.astype(int)), 1)
    model = compiled(QKFormerClassifier.from_preset(folder / "events"))
    expected, other = (
        keras.ops.convert_to_numpy(keras.ops.softmax(model(frames)))[0]
        for frames in (sideways, upright)
    )
    assert abs(expected - other).max() > 1e-3  # Or nothing could tell.
    _, answers = predict_stream(tmp_path / "model", tmp_path / "a.aedat", 30.0)
    probabilities = [answer.probabilities for answer in answers][-1]
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)


def test_command_prints_a_line_per_frame_and_the_last_answer(folder, capsys):
    recording = str(folder / "whole.aedat")
    status = main(["predict", str(folder / "events"), "--stream", recording, "--top=2"])
    assert status == 0
    *frames, last = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert [line[0] for line in frames] == ["30.0 ms", "60.0 ms", "90.0 ms"]
    for _, first, second, latency in frames:
        assert first.split(":")[0] in NAMES
        assert 1 >= float(first.split(":")[1]) >= float(second.split(":")[1]) >= 0
        assert latency.startswith("took ") and latency.endswith(" ms")
    assert last == [recording, *frames[-1][1:3]]


@pytest.mark.backend_independent
def test_recordings_are_files_like_images(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    line = ["predict", "events", "whole.aedat", "text.aedat", "--json", "--top=3"]
    assert main(line) == 1
    said = capsys.readouterr()
    assert "text.aedat: At byte 0" in said.err
    assert said.err.count("text.aedat") == 1
    (answer,) = map(json.loads, said.out.splitlines())
    found = {entry["class"]: entry["probability"] for entry in answer["classes"]}
    trained = load_trained("events")
    (expected,) = trained.predict(["whole.aedat"])
    np.testing.assert_allclose([found[name] for name in NAMES], expected, rtol=1e-6)


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("events", ["--stream", "wide.aedat"], "x must lie from 0 to 11"),
        (
            "events",
            ["--stream", "text.aedat"],
            "text.aedat: At byte 0: expected '#!AER-DAT'",
        ),
        ("events", ["--stream", "empty.aedat"], "must have events"),
        ("events", ["--stream", "empty.aedat", "--frame-ms", "5"], "must have events"),
        ("images", ["--stream", "whole.aedat"], "static=True"),
        ("nowhere", ["--stream", "whole.aedat"], "'nowhere'"),
        ("events", ["whole.png"], "This model takes recordings. Received: 'whole.png'"),
        ("events", ["--stream", "whole.png"], "This model takes recordings"),
        ("images", ["whole.aedat"], "Files need a model of images with 1 or 3"),
        ("events", [], "Received: events with neither"),
        (
            "events",
            ["one.png", "--stream", "whole.aedat"],
            "Received: events with files and --stream whole.aedat",
        ),
        (
            "events",
            ["one.png", "--frame-ms", "5"],
            "--frame-ms must come with --stream",
        ),
        (
            "events",
            ["whole.png", "--orientation", "jaer"],
            "This model takes recordings",
        ),
    ],
    ids=str,
)
def test_mistake_is_one_line_and_status_2(
    folder, model, arguments, message, capsys, monkeypatch
):
    monkeypatch.chdir(folder)
    assert main(["predict", model, *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert message in said.err


def test_real_recording_runs_through(tmp_path):
    recording = shared_file("aedat31-made-to-spec.aedat")
    backbone = QKFormerBackbone(
        **{**TINY, "static": False, "family": "dvs", "image_size": 128}
    )
    model = QKFormerClassifier(backbone, len(NAMES))
    model.save_to_preset(tmp_path, metadata_of(model))
    _, answers = predict_stream(tmp_path, recording)
    assert [answer.probabilities.shape for answer in answers] == [(3,)] * 3
