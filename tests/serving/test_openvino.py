"""OpenVINO: weights of 8 bits round nothing but themselves, and folders answer."""

import json
import shutil

import keras
import numpy as np
import pytest
from saved_presets import save_preset

from keras_qkformer import layers
from keras_qkformer.cli import main
from keras_qkformer.events.aedat31 import write_aedat31
from keras_qkformer.manifest import write_manifest
from keras_qkformer.predict import predict_files, predict_stream
from keras_qkformer.serving.agreement import in_float64
from keras_qkformer.serving.check import serve_check
from keras_qkformer.serving.export import export_portable
from keras_qkformer.serving.unit_weights import UnitWeights
from keras_qkformer.trained import load_trained

openvino = pytest.importorskip("openvino", reason="the export needs an extra")
pytestmark = pytest.mark.backend_independent

EVENTS = {"static": False, "in_channels": 2, "family": "cifar"}
OF_EVENTS = {"image_size": [8, 8], "mean": [0.5, 0.25], "std": [1.5, 0.5]}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """`(preset folder, folder of its export with weights of 8 bits)`."""
    folder = tmp_path_factory.mktemp("images")
    keras.utils.set_random_seed(0)
    save_preset(folder / "preset")
    export_portable(folder / "preset", folder / "out", "openvino", "int8")
    return folder / "preset", folder / "out"


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """The same of a model of event frames, with weights in float32."""
    folder = tmp_path_factory.mktemp("events")
    keras.utils.set_random_seed(0)
    values = {"preprocessing": {**OF_EVENTS, "max_value": 2.0}}
    save_preset(folder / "preset", values, **EVENTS)
    export_portable(folder / "preset", folder / "out", "openvino")
    return folder / "preset", folder / "out"


def test_int8_rounds_the_weights_alone(images):
    preset, out = images
    told = json.loads((out / "metadata.json").read_text())
    # Every spike is that of the rounded model in float64, see `portable.compare`.
    assert told["agreement"]["model"]["largest_difference"] < 1e-5
    assert told["agreement"]["model"]["flips"] <= 2
    assert told["weights"] == "int8"
    assert told["float_units"] == ["patch_embed1/unit0"]  # It takes pixels.
    rounding = told["rounding"]
    assert rounding["examples"] == 2 and rounding["correct"] is None
    shares = rounding["changed_spikes_by_layer"]
    assert shares.keys() == load_trained(preset).model.neurons().keys()
    assert shares["patch_embed1_unit0"] == 0 < max(shares.values()) < 0.5


def test_a_workdir_is_rounded_by_its_examples(images, tmp_path):
    preset, out = images
    shutil.copytree(preset, tmp_path / "best")
    pixels = np.random.default_rng(2).integers(0, 256, (12, 8, 8, 1), "uint8")
    logits = load_trained(preset).logits(pixels)
    labels = logits.argmax(-1)
    np.savez(tmp_path / "examples.npz", images=pixels, labels=labels, logits=logits)
    export_portable(tmp_path, tmp_path / "out", "openvino", "int8")
    told = json.loads((tmp_path / "out" / "metadata.json").read_text())["rounding"]
    assert told["examples"] == told["correct"] == 8
    assert told["correct_rounded"] == told["same_top1"] >= 7
    nearest = (out / "model.bin").read_bytes()
    assert (tmp_path / "out" / "model.bin").read_bytes() != nearest


def test_weights_are_rounded_by_filter_to_the_nearest():
    keras.utils.set_random_seed(0)
    unit = layers.ConvBNLIF(4, kernel_size=3)
    unit.build((None, 2, 6, 6, 5))
    before = unit.conv.kernel.numpy() / np.sqrt(1 + 1e-5)  # As BatchNorm begins.
    weights = UnitWeights("int8")
    found = weights.of(unit, 3)
    assert found.kernel.shape == (4, 5, 3, 3) and found.kernel.dtype == np.int8
    assert (np.abs(found.kernel).max((1, 2, 3)) == 127).all()
    rounded = (found.kernel * found.scale.reshape(-1, 1, 1, 1)).transpose(2, 3, 1, 0)
    assert (np.abs(rounded - before).max((0, 1, 2)) <= found.scale * 0.5001).all()
    assert weights.of(unit, 3) is found and weights.float_units() == []
    for largest in (None, 256):  # Not whole, or too large for 8 bits.
        weights = UnitWeights("int8")
        assert weights.of(unit, largest).kernel.dtype == np.float32
        assert weights.float_units() == [unit.path]


def test_an_answer_does_not_depend_on_its_batch(images):
    from keras_qkformer.serving.openvino_runtime import Run  # Needs the extra.

    _, out = images
    run = Run(out / "model.xml")
    x = np.random.default_rng(0).random((3, 8, 8, 1), "float32") * 255
    logits = run({"images": x})["logits"]
    alone = [run({"images": x[i : i + 1]})["logits"] for i in range(3)]
    np.testing.assert_array_equal(logits, np.concatenate(alone))
    # In code of one's own, the file takes any batch.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    file = openvino.Core().compile_model(str(out / "model.xml"), "CPU", exact)
    np.testing.assert_allclose(file(x)["logits"], logits, atol=1e-4)


def test_a_file_holds_the_weights_once_for_all_steps(images):
    _, out = images
    told = json.loads((out / "metadata.json").read_text())
    size = (out / "model.bin").stat().st_size
    assert told["input"]["time_steps"] == 2
    assert told["parameters"] < size < 1.4 * told["parameters"]


def test_a_wrong_graph_is_refused(tmp_path, monkeypatch):
    """The check sees a neuron that forgets its leak."""
    from keras_qkformer.serving import openvino_graph  # Needs the extra.

    keras.utils.set_random_seed(0)
    save_preset(tmp_path / "preset")
    original = openvino_graph.Dynamics.__init__

    def without_leak(self, *arguments):
        original(self, *arguments)
        self.keep = 1.0

    monkeypatch.setattr(openvino_graph.Dynamics, "__init__", without_leak)
    with pytest.raises(ValueError, match=r"A spike of .* may differ only where"):
        export_portable(tmp_path / "preset", tmp_path / "out", "openvino")
    assert not (tmp_path / "out").exists()


def test_a_layer_without_a_rule_is_named():
    from keras_qkformer.serving.openvino_graph import GraphBuilder

    class Mine(keras.layers.Layer):
        pass

    with pytest.raises(ValueError, match=r"must have a rule .* Received: Mine"):
        GraphBuilder(UnitWeights()).add(Mine(), None)


def test_a_folder_predicts_images_as_its_model_does(images, tmp_path, capsys):
    preset, out = images
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), "uint8")
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, pixels, strict=True):
        keras.utils.save_img(path, image, scale=False)
    names, answers = predict_files(out, paths)
    trained = load_trained(preset)
    assert names == trained.class_names
    rounded = in_float64(trained.model)
    weights = UnitWeights("int8")
    for unit in rounded._flatten_layers():
        if isinstance(unit, layers.ConvBNLIF):
            weights.of(unit, None if unit.path.endswith("embed1/unit0") else 8)
    logits = rounded.predict(trained.preprocessing(pixels).numpy(), verbose=0)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for answer, probabilities in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer.probabilities, probabilities, atol=1e-5)
    assert main.main(["predict", str(out), str(paths[0])]) == 0
    assert capsys.readouterr().out.startswith(str(paths[0]))


def test_a_folder_streams_recordings_as_its_model_does(events, tmp_path):
    preset, out = events
    draw = np.random.default_rng(0)
    count = 2000
    recording = np.zeros(count, dtype=[(n, "<i8") for n in "txyp"])
    recording["t"] = np.sort(draw.integers(0, 50_000, count))
    for axis, high in (("x", 8), ("y", 8), ("p", 2)):
        recording[axis] = draw.integers(0, high, count)
    write_aedat31(tmp_path / "some.aedat", recording)
    _, answers = predict_stream(out, tmp_path / "some.aedat", 10)
    _, expected = predict_stream(preset, tmp_path / "some.aedat", 10)
    answers, expected = list(answers), list(expected)
    assert len(answers) == len(expected) > 3
    for ours, theirs in zip(answers, expected, strict=True):
        assert ours.end_ms == theirs.end_ms
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-5)


@pytest.mark.parametrize("kind", ["images", "events"])
def test_a_folder_passes_its_check_until_it_is_damaged(kind, request, capsys):
    _, out = request.getfixturevalue(kind)
    assert serve_check(out, seconds=0.001) == 0
    told = capsys.readouterr().out
    assert "0 failed" in told and "a bad item is refused" in told
    assert ("stream, batch 17" in told) == (kind == "events")
    with pytest.raises(ValueError, match="checked by itself"):
        serve_check(out, model=out, seconds=0.001)
    file = out / "model.bin"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    try:
        with pytest.raises(ValueError, match=r"model\.bin"):
            serve_check(out, seconds=0.001)
    finally:
        data[100] ^= 1
        file.write_bytes(data)


def test_wrong_answers_fail_the_check(images, tmp_path, capsys):
    _, out = images
    shutil.copytree(out, tmp_path / "out")
    with np.load(out / "examples.npz") as kept:
        arrays = {**kept, "logits": kept["logits"] + 0.1}
    np.savez(tmp_path / "out" / "examples.npz", **arrays)
    write_manifest(tmp_path / "out")
    assert serve_check(tmp_path / "out", seconds=0.001) == 1
    assert "FAILED model, batch 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("format", "weights", "message"),
    [
        ("onnx", "int8", r"with format 'onnx'; --format openvino --weights int8"),
        ("litert", "int8", r"with format 'litert'; --format openvino --weights int8"),
        ("openvino", "bfloat16", r"with format 'openvino'\. Received: 'bfloat16'"),
        ("ir", "int8", r"format must be one of .* Received: 'ir'"),
    ],
)
def test_other_combinations_are_refused(tmp_path, format, weights, message):
    with pytest.raises(ValueError, match=message):
        export_portable(tmp_path, tmp_path / "out", format, weights)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("images", {"class_names": ["a"] * 11}, r"model\.xml must be a model"),
        ("images", {"input": {"in_channels": 3}}, r"model\.xml must be a model"),
        ("events", {"input": {"time_steps": 7}}, r"model\.xml must be a model"),
        ("events", "stream.xml", r"stream\.xml must be a model"),
        ("images", ("model.xml", '"f32"', '"u8"'), "both float32"),
        ("events", ("stream.xml", "next_steps", "no"), "takes. Received: .'no', 'ste"),
        (
            "images",
            {"preprocessing": {"image_size": [16, 16]}},
            r"the model's image_size, \(8, 8\)\. Received: \(16, 16\)",
        ),
        ("images", "model.bin", r"that it can read\. Received: .*model\.xml"),
    ],
)
def test_a_folder_whose_parts_do_not_fit_is_refused(
    kind, change, message, request, tmp_path
):
    _, out = request.getfixturevalue(kind)
    shutil.copytree(out, tmp_path / "out")
    if isinstance(change, dict):
        path = tmp_path / "out" / "metadata.json"
        told = json.loads(path.read_text())
        ((name, value),) = change.items()
        if isinstance(value, dict):
            value = {**told[name], **value}
        path.write_text(json.dumps({**told, name: value}))
    elif isinstance(change, tuple):
        name, text, other = change
        path = tmp_path / "out" / name
        path.write_text(path.read_text().replace(text, other))
    elif change.endswith(".xml"):
        (tmp_path / "out" / change).unlink()
    else:
        path = tmp_path / "out" / change
        path.write_bytes(path.read_bytes()[:1000])
    write_manifest(tmp_path / "out")
    for used in (lambda x: predict_files(x, []), serve_check):
        with pytest.raises(ValueError, match=message):
            used(tmp_path / "out")
