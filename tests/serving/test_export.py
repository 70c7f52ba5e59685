"""SavedModels: the same answers in plain TensorFlow, and what is refused."""

import datetime
import hashlib
import json
import re
import runpy
import subprocess
import sys

import keras
import numpy as np
import pytest
from harness import to_numpy
from model_harness import compiled
from saved_presets import save_preset, settled_preset

from keras_qkformer.child_process import module_command, module_environment
from keras_qkformer.data import sources
from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.data.source import Source
from keras_qkformer.manifest import write_manifest
from keras_qkformer.models import QKFormerClassifier, StreamingQKFormer
from keras_qkformer.provenance import provenance
from keras_qkformer.serving import export, export_process, wire
from keras_qkformer.serving.bundle import check_exportable
from keras_qkformer.serving.check_answers import Subject, check_answers
from keras_qkformer.serving.export import export_portable, export_saved_model
from keras_qkformer.serving.export_process import ask_process
from keras_qkformer.serving.wire import pad_events
from keras_qkformer.trained import load_trained
from keras_qkformer.training.fit import fit
from keras_qkformer.training.recipe import Data, Optimizer, Recipe, to_dict

ASK = """
import sys
sys.modules["keras"] = sys.modules["keras_qkformer"] = None
import numpy as np, tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures[sys.argv[4]]
inputs = np.load(sys.argv[2])["inputs"]
(name,) = serve.structured_input_signature[1]
answers = {}
for n in (1, 3, len(inputs)):
    for key, value in serve(**{name: tf.constant(inputs[:n])}).items():
        answers[f"{n}/{key}"] = value.numpy()
    answers[f"{n}/labels"] = answers[f"{n}/labels"].astype(bytes)
np.savez(sys.argv[3], **answers)
"""


def ask(version, inputs, folder, signature, script=ASK):
    """Answers in a process that has neither keras nor keras_qkformer."""
    np.savez(folder / "inputs.npz", inputs=inputs)
    subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            str(version),
            folder / "inputs.npz",
            folder / "answers.npz",
            signature,
        ],
        check=True,
        timeout=120,
    )
    return np.load(folder / "answers.npz")


def test_images_get_the_same_logits_in_plain_tensorflow(tmp_path):
    model = save_preset(tmp_path / "preset")
    version = export_saved_model(tmp_path / "preset", tmp_path / "served")
    assert version == tmp_path / "served" / "1"
    metadata = json.loads((version / "assets.extra" / "metadata.json").read_text())
    exported_with = metadata["exported_with"]
    assert exported_with["versions"]["backend"] == "tensorflow"
    assert exported_with["command"] == provenance()["command"]  # Not that of a process.
    images = np.random.default_rng(1).integers(0, 256, (64, 8, 8, 1)).astype("float32")
    answers = ask(version, images, tmp_path, "predict_pixels")
    expected = model.predict((images / 255 - 0.3) / 0.1, verbose=0)
    assert np.ptp(expected, 0).min() > 1e-3  # Its neurons fire.
    probabilities = np.exp(expected) / np.exp(expected).sum(-1, keepdims=True)
    for n in (1, 3, 64):
        np.testing.assert_allclose(answers[f"{n}/logits"], expected[:n], atol=1e-5)
        scores, class_ids = answers[f"{n}/scores"], answers[f"{n}/class_ids"]
        assert scores.shape == class_ids.shape == (n, 5)
        np.testing.assert_array_equal(class_ids[:, 0], expected[:n].argmax(-1))
        np.testing.assert_allclose(
            scores, np.take_along_axis(probabilities[:n], class_ids, 1), atol=1e-5
        )
        assert (np.diff(scores) <= 0).all()
        names = [[int(name) for name in row] for row in answers[f"{n}/labels"]]
        np.testing.assert_array_equal(names, class_ids)


FRUIT = ["plum", "fig", "lime", "kiwi", "pear", "date", "apple"]
OPTIONS = {
    "weights": "bfloat16",
    "batch_sizes": (1, 3),
    "top": 4,
    "max_megapixels": 0.0004,
}
IMAGES = {
    "preset": "qkformer_tiny",
    "class_names": FRUIT,
    "preprocessing": {
        "image_size": [8, 8],
        "mean": [0.5, 0.4, 0.2],
        "std": [0.1, 0.3, 0.2],
        "max_value": 200.0,
        "crop": 0.8,
        "interpolation": "bicubic",
    },
}


@pytest.fixture(scope="module")
def fruit(tmp_path_factory):
    """`(model, preset folder, version)`, all options and metadata off their default."""
    folder = tmp_path_factory.mktemp("fruit")
    keras.utils.set_random_seed(1)
    model = save_preset(folder / "preset", IMAGES, in_channels=3, num_classes=7)
    version = export_saved_model(folder / "preset", folder / "fruit", **OPTIONS)
    return model, folder / "preset", version


@pytest.mark.backend_independent
def test_metadata_of_a_bundle_hold_every_option(fruit):
    model, preset, version = fruit
    metadata = json.loads((version / "assets.extra" / "metadata.json").read_text())
    examples = metadata.pop("examples")
    assert (examples["count"], examples["of"]) == (2, "noise")
    exported_with = metadata.pop("exported_with")
    assert exported_with["versions"]["backend"] == "tensorflow"
    assert "tensorflow" in exported_with
    age = datetime.date.today() - datetime.date.fromisoformat(metadata.pop("date"))
    assert 0 <= age.days <= 1
    weights = (preset / "model.weights.h5").read_bytes()
    pixels = [None, None, None, 3]
    inputs = {
        "serving_default": {"image_bytes": {"dtype": "string", "shape": [None]}},
        "predict_lenient": {"image_bytes": {"dtype": "string", "shape": [None]}},
        "predict_pixels": {"images": {"dtype": "float32", "shape": pixels}},
        "predict_pixels_uint8": {"images": {"dtype": "uint8", "shape": pixels}},
    }
    outputs = {
        "labels": {"dtype": "string", "shape": [None, 4]},
        "scores": {"dtype": "float32", "shape": [None, 4]},
        "class_ids": {"dtype": "int64", "shape": [None, 4]},
        "logits": {"dtype": "float32", "shape": [None, 7]},
    }
    status = {"status": {"dtype": "string", "shape": [None]}}
    assert metadata == {
        "source": str(preset.resolve()),
        "preset": "qkformer_tiny",
        "parameters": sum(np.size(w) for w in model.trainable_variables),
        "sha256_of_weights": hashlib.sha256(weights).hexdigest(),
        "class_names": FRUIT,
        "preprocessing": IMAGES["preprocessing"],
        "accuracy": None,
        "accuracy_split": None,
        "recipe": None,
        "trained_with": {"versions": None, "commit": None},
        "weights": "bfloat16",
        "max_pixels": 400,
        "batch_sizes": [1, 3],
        "frames": None,
        "orientation": None,
        "signatures": {
            name: {
                "inputs": entry,
                "outputs": outputs | (status if name == "predict_lenient" else {}),
            }
            for name, entry in inputs.items()
        },
    }


@pytest.mark.backend_independent
def test_a_bundle_answers_by_its_options(fruit):
    import tensorflow as tf

    model, _, version = fruit
    ask = tf.saved_model.load(version).signatures
    images = np.random.default_rng(1).integers(0, 200, (3, 8, 8, 3)).astype("float32")
    answers = ask["predict_pixels"](images=tf.constant(images))
    logits = answers["logits"].numpy()
    inputs = Preprocessing.from_dict(IMAGES["preprocessing"])(images).numpy()
    expected = compiled(model)(inputs)
    assert 0 < np.abs(logits - expected).max() < 0.3 * np.abs(expected).max()
    best = np.argsort(-logits)[:, :4]
    np.testing.assert_array_equal(answers["class_ids"], best)
    labels = answers["labels"].numpy().astype(str)
    np.testing.assert_array_equal(labels, np.array(FRUIT)[best])
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(
        answers["scores"], np.take_along_axis(scores, best, 1), rtol=1e-5
    )
    assert (version / "assets" / "labels.txt").read_text().split() == FRUIT
    files = [tf.io.encode_png(np.zeros((20, n, 3), "uint8")) for n in (20, 21)]
    said = ask["predict_lenient"](image_bytes=tf.stack(files))
    assert list(said["status"].numpy()) == [b"", b"of 21x20 pixels, more than 400"]
    good, bad = said["class_ids"].numpy()
    assert good.min() >= 0 and bad.tolist() == [-1] * 4
    assert said["labels"].numpy()[1].tolist() == [b""] * 4
    assert not said["scores"].numpy()[1].any() and not said["logits"].numpy()[1].any()


@pytest.mark.backend_independent
def test_a_server_is_told_the_batch_sizes_and_the_name(fruit):
    import tensorflow as tf

    *_, version = fruit
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    requests = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        name, _, signature, tensors, _ = wire.decode_predict_request(
            wire.request_of_log(record)
        )
        ((_, values),) = tensors.items()
        requests.append((name, signature, len(values)))
    assert sorted(requests) == [
        ("fruit", signature, batch)
        for signature in (
            "predict_lenient",
            "predict_pixels",
            "predict_pixels_uint8",
            "serving_default",
        )
        for batch in (1, 3)
    ]
    folder = version.parent / "server"
    batching = (folder / "batching.config").read_text()
    assert re.findall(r"allowed_batch_sizes: (\d+)", batching) == ["1", "3"]
    assert "max_execution_batch_size { value: 3 }" in batching
    assert 'name: "fruit"' in (folder / "models.config").read_text()


GESTURES = ("wave", "clap", "arm roll")
SENSOR = (12, 20)


def gestures(*, time_steps, sensor_size, frames_by):
    """A source with nothing at its default."""
    assert (tuple(sensor_size), frames_by) == (SENSOR, "time")

    def load(split, bounds):
        first, last = bounds(12)
        shape = (12, time_steps, *SENSOR, 2)
        frames = np.random.default_rng(len(split)).poisson(2.0, shape)
        return frames[first:last].astype("uint16"), np.arange(12)[first:last] % 3

    return Source(
        class_names=GESTURES,
        mean=(0.5, 0.25),
        std=(0.5, 0.75),
        max_value=2.0,
        orientation="spikingjelly",
        load=load,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`(recipe, workdir)` of a short training on `gestures`."""
    folder = tmp_path_factory.mktemp("trained")
    keras.utils.set_random_seed(1)
    save_preset(
        folder / "preset",
        static=False,
        in_channels=2,
        image_size=(8, 12),
        time_steps=3,
        num_classes=3,
    )
    recipe = Recipe(
        preset=str(folder / "preset"),
        model={"dropout": 0.3, "tau": 2.5},
        data=Data(
            name="gestures",
            train="train[:8]",
            validation="train[8:]",
            test="test[:3]",
            batch_size=4,
            sensor_size=SENSOR,
            frames_by="time",
            std=(1.5, 0.5),
        ),
        optimizer=Optimizer(epochs=1, learning_rate=1e-4),
        label_smoothing=0.1,
        max_steps=1,
        seed=3,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.SOURCES, "gestures", gestures)
        fit(recipe, folder / "run", verbose=0)
    return recipe, folder / "run"


@pytest.mark.backend_independent
def test_fit_writes_beside_the_best_model_all_that_others_need(trained):
    recipe, workdir = trained
    metadata = json.loads((workdir / "best" / "metadata.json").read_text())
    results = json.loads((workdir / "results.json").read_text())
    for key in ("keras_qkformer", "keras", "backend", "date", "manifest"):
        del metadata[key]
    assert metadata == {
        "parameters": results["parameters"],
        "recipe": json.loads(json.dumps(to_dict(recipe))),
        "class_names": list(GESTURES),
        "preprocessing": {
            "image_size": [8, 12],
            "mean": [0.5, 0.25],
            "std": [1.5, 0.5],
            "max_value": 2.0,
        },
        "orientation": "spikingjelly",
        **results["best"],
    }
    config = json.loads((workdir / "best" / "config.json").read_text())
    assert (config["dropout"], config["tau"], config["num_classes"]) == (0.3, 2.5, 3)


@pytest.mark.backend_independent
def test_a_bundle_makes_frames_as_the_training_did(trained, tmp_path):
    import tensorflow as tf

    _, workdir = trained
    # Without the examples that the workdir has.
    version = export_saved_model(workdir / "best", tmp_path / "served", batch_sizes=[2])
    metadata = json.loads((version / "assets.extra" / "metadata.json").read_text())
    assert metadata["frames"] == {"sensor_size": [12, 20], "frames_by": "time"}
    assert metadata["orientation"] == "spikingjelly"
    draw = np.random.default_rng(1)
    t = np.sort((9e5 * draw.random(2000) ** 3).astype("int64"))
    events = {"t": t, "y": draw.integers(0, 12, 2000), "x": draw.integers(0, 20, 2000)}
    events["p"] = draw.integers(0, 2, 2000)
    number = np.minimum((t - t[0]) // ((t[-1] - t[0]) // 3), 2)
    frames = np.zeros((3, *SENSOR, 2), "float32")
    np.add.at(frames, (number, events["y"], events["x"], events["p"]), 1)
    counts = frames.sum((1, 2, 3))
    assert counts.min() > 200 and np.ptp(counts) > 800
    loaded = load_trained(workdir)
    inputs = loaded.preprocessing(frames[None])
    served = tf.saved_model.load(version).signatures

    def ask(signature, inputs):
        inputs = {name: tf.convert_to_tensor(value) for name, value in inputs.items()}
        try:
            answers = served[signature](**inputs)
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(error.message) from error
        return {name: value.numpy() for name, value in answers.items()}

    expected = to_numpy(loaded.model(inputs))
    logits = ask("predict_events", pad_events([events]))["logits"]
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    specs = metadata["signatures"]["stream"]["inputs"]
    state = {
        name: np.zeros((1, *spec["shape"][1:]), spec["dtype"])
        for name, spec in specs.items()
        if name != "frame"
    }
    for frame in frames:
        said = ask("stream", {"frame": frame[None], **state})
        state = {name: said[name] for name in state}
    np.testing.assert_allclose(said["logits"], expected, atol=1e-5)
    with np.load(version / "assets.extra" / "examples.npz") as examples:
        subject = Subject(ask, metadata, dict(examples), seconds=0)
    assert subject.examples["images"].shape == (2, 3, 12, 20, 2)
    outcomes = list(check_answers(subject))
    assert len(outcomes) > 20
    assert [text for passed, text in outcomes if not passed] == []


@pytest.mark.backend_independent
def test_a_bundle_of_a_training_says_how_good_it_was(trained):
    from keras_qkformer.serving import bundle

    recipe, workdir = trained
    results = json.loads((workdir / "results.json").read_text())
    loaded = load_trained(workdir)
    origin = bundle.origin(workdir, loaded)
    assert origin["preset"] == recipe.preset
    assert origin["recipe"] == json.loads(json.dumps(to_dict(recipe)))
    assert origin["accuracy"] == results["test"]["accuracy"]
    assert origin["accuracy_split"] == "test[:3]"
    kept = {key: results[key] for key in ("versions", "commit")}
    assert origin["trained_with"] == kept
    assert kept["versions"]["backend"] == keras.backend.backend()
    examples = bundle.draw_examples(workdir, loaded)
    assert examples["images"].shape == (3, 3, *SENSOR, 2)
    assert examples["labels"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(examples["logits"], examples["trained"], atol=1e-5)


STREAM = """
import sys
sys.modules["keras"] = sys.modules["keras_qkformer"] = None
import numpy as np, tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures
step, frames = served[sys.argv[4]], np.load(sys.argv[2])["inputs"]
specs = step.structured_input_signature[1]
state = {
    name: tf.zeros((frames.shape[1], *spec.shape[1:]), spec.dtype)
    for name, spec in specs.items()
    if name != "frame"
}
answers = {}
for i, frame in enumerate(frames):
    said = step(frame=tf.constant(frame), **state)
    state = {name: said[name] for name in state}
    answers |= {f"{i}/{k}": v for k, v in said.items() if k != "labels"}
serve = served["predict_frames"]
(name,) = serve.structured_input_signature[1]
whole = tf.constant(np.swapaxes(frames[:2], 0, 1))
answers["whole/logits"] = serve(**{name: whole})["logits"]
np.savez(sys.argv[3], **answers)
"""


@pytest.mark.backend_independent
def test_event_frames_are_served_as_they_are_and_one_at_a_time(tmp_path):
    model = save_preset(
        tmp_path / "preset", static=False, in_channels=2, family="cifar"
    )
    version = export_saved_model(tmp_path / "preset", tmp_path / "served")
    frames = np.random.default_rng(1).poisson(1.0, (4, 3, 8, 8, 2)).astype("float32")
    expected = model.predict(np.swapaxes(frames[:2], 0, 1), verbose=0)
    answers = ask(version, frames, tmp_path, "stream", STREAM)
    np.testing.assert_allclose(answers["whole/logits"], expected, atol=1e-5)
    np.testing.assert_allclose(answers["1/logits"], expected, atol=1e-5)
    stream = StreamingQKFormer(model)
    state = stream.initial_state(3)
    for frame in frames:
        logits, state = stream(frame, state)
    np.testing.assert_allclose(answers["3/logits"], to_numpy(logits), atol=1e-5)
    np.testing.assert_array_equal(
        answers["3/class_ids"][:, 0], answers["3/logits"].argmax(-1)
    )
    for name, value in state.items():
        np.testing.assert_allclose(answers[f"3/{name}"], to_numpy(value), atol=1e-5)


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("weights", "bytes_per_weight", "bound"),
    [("float32", 4, 1e-6), ("bfloat16", 2, 0.3), ("int8", 1, 0.3)],
)
def test_rounded_weights_are_small_and_near(tmp_path, weights, bytes_per_weight, bound):
    model = save_preset(tmp_path / "preset", embed_dim=32)
    version = export_saved_model(tmp_path / "preset", tmp_path / "served", weights)
    data = version / "variables" / "variables.data-00000-of-00001"
    kernels = sum(
        np.prod(layer.kernel.shape)
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Conv2D)
    )
    rest = data.stat().st_size - kernels * bytes_per_weight
    assert 0 < rest < kernels  # Offsets, scales, the head, and what TensorFlow adds.
    metadata = json.loads((version / "assets.extra" / "metadata.json").read_text())
    examples = metadata["examples"]
    assert examples["of"] == "noise" and examples["count"] == 2
    assert examples["largest_difference"] <= bound * examples["largest_logit"]
    assert metadata["weights"] == weights


@pytest.mark.backend_independent
def test_float64_is_exact(tmp_path, float64):
    import tensorflow as tf

    from keras_qkformer.serving.served_model import ServedModel

    save_preset(tmp_path / "preset")
    trained = load_trained(tmp_path / "preset")
    images = np.random.default_rng(1).integers(0, 256, (17, 8, 8, 1)).astype("float32")
    expected = to_numpy(trained.model(trained.preprocessing(images)))
    assert expected.dtype == "float64" and np.ptp(expected, 0).min() > 1e-3
    ServedModel(trained).save(tmp_path / "saved")
    serve = tf.saved_model.load(tmp_path / "saved").signatures["predict_pixels"]
    for n in (1, 3, 17):
        logits = serve(images=tf.constant(images[:n]))["logits"].numpy()
        np.testing.assert_allclose(logits, expected[:n], atol=1e-9, rtol=0)


@pytest.mark.backend_independent
@pytest.mark.parametrize("static", [True, False], ids=["images", "events"])
@pytest.mark.parametrize(
    ("format", "package"),
    [("onnx", "tf2onnx"), ("litert", "ai_edge_litert"), ("openvino", "openvino")],
)
def test_other_runtimes_give_the_same_logits(tmp_path, format, package, static):
    pytest.importorskip(package, reason="the export needs an extra")
    options = {} if static else {"static": False, "in_channels": 2, "family": "cifar"}
    # Not neutral, also for counts of events.
    values = {"mean": [0.3], "std": [0.1], "max_value": 200.0}
    if not static:
        values = {"mean": [0.5, 0.25], "std": [1.5, 0.5], "max_value": 2.0}
    preprocessing = {"preprocessing": {"image_size": [8, 8], **values}}
    save_preset(tmp_path / "preset", preprocessing, **options)
    found = export_portable(tmp_path / "preset", tmp_path / "out", format)
    assert set(found) == ({"model"} if static else {"model", "stream"})
    for each in found.values():
        assert each["largest_difference"] < 1e-5
        assert 0.01 < each["fired"] / each["neurons"] < 0.9
        assert each["same_as_with_spikes"] == each["examples"] == 3
        assert each["flips"] == sum(each["flips_by_layer"].values()) <= 2
    files = {path.name for path in (tmp_path / "out").iterdir()}
    models = {
        "onnx": {f"{name}.onnx" for name in found},
        "litert": {"model.tflite"},
        "openvino": {f"{name}.{end}" for name in found for end in ("xml", "bin")}
        | {"examples.npz"},  # For its check.
    }
    assert files == {"metadata.json", "manifest.json", *models[format]}
    with pytest.raises(ValueError, match="must not exist yet"):
        export_portable(tmp_path / "preset", tmp_path / "out", format)


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("format", "package"),
    [("onnx", "tf2onnx"), ("litert", "ai_edge_litert"), ("openvino", "openvino")],
)
def test_missing_package_is_told_before_the_model_is_loaded(
    tmp_path, monkeypatch, format, package
):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"keras_qkformer\[{format}\]"):
        export_portable(tmp_path / "no such model", tmp_path / "out", format)


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "int4"}, "Received: 'int4'"),
        ({"batch_sizes": (4, 2)}, r"Received: \[4, 2\]"),
        ({"batch_sizes": (0, 2)}, r"Received: \[0, 2\]"),
        ({"batch_sizes": ()}, r"Received: \[\]"),
        ({"top": 0}, "top=0"),
        ({"max_megapixels": 0}, "max_megapixels=0"),
        ({"batch_sizes": range(1, 500)}, "1000 warm-up requests. Received: 1996"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        export_saved_model(settled_preset(), tmp_path / "served", **arguments)
    left = list((tmp_path / "served").glob("*"))
    assert not left


@pytest.mark.backend_independent
def test_versions_count_up_and_nothing_else_is_left(tmp_path):
    (tmp_path / "served" / "7").mkdir(parents=True)
    (tmp_path / "served" / "server").mkdir()
    (tmp_path / "served" / "server" / "models.config").write_text("mine")
    assert export_saved_model(settled_preset(), tmp_path / "served").name == "8"
    assert {path.name for path in (tmp_path / "served").iterdir()} == {
        "7",
        "8",
        "server",
    }
    assert (tmp_path / "served" / "server" / "models.config").read_text() == "mine"


@pytest.mark.backend_independent
def test_state_that_runs_through_the_batch_is_refused(tmp_path):
    save_preset(tmp_path / "preset")
    config = tmp_path / "preset" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "membrane_state": "batch"}))
    write_manifest(tmp_path / "preset")
    with (
        pytest.warns(UserWarning, match="a defect of the authors' code"),
        pytest.raises(ValueError, match="Received: membrane_state='batch'"),
    ):
        export_saved_model(tmp_path / "preset", tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_default_state_may_be_exported():
    check_exportable(QKFormerClassifier.from_preset("qkformer_tiny"))


@pytest.mark.backend_independent
def test_preset_that_does_not_say_its_classes_is_refused(tmp_path):
    QKFormerClassifier.from_preset("qkformer_tiny").save_to_preset(
        tmp_path / "model", {"class_names": ["zero", "one"]}
    )
    with pytest.raises(ValueError, match="without preprocessing"):
        export_saved_model(tmp_path / "model", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.backend_independent
def test_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="A trained model must be a workdir"):
        export_saved_model(tmp_path, tmp_path / "served")


REQUEST = {
    "function": "export_saved_model",
    "command": ["some", "command"],
    "trust": False,
    "user_modules": [],
}


@pytest.mark.backend_independent
def test_the_process_answers_with_a_mistake(tmp_path, monkeypatch):
    """Nor does it run files of the current folder."""
    arguments = {"folder": str(tmp_path), "out": str(tmp_path / "out"), "top": 0}
    for name in ("json", "keras", "numpy", "keras_qkformer", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('trapped')")
    monkeypatch.chdir(tmp_path)
    error = ask_process(
        module_command("keras_qkformer.serving.export"),
        module_environment(),
        {**REQUEST, "arguments": arguments},
    )["error"]
    assert error["type"] == "ValueError"
    assert "top must be at least 1, max_megapixels above 0." in error["message"]


@pytest.mark.backend_independent
def test_the_process_answers_with_the_traceback_of_an_error_of_ours(
    tmp_path, monkeypatch
):
    """What the process calls, called here: to start one takes five seconds."""
    given = []
    monkeypatch.setattr(export_process, "answer_parent", given.append)
    monkeypatch.setattr(sys, "argv", sys.argv)  # Answers replace it.
    with pytest.warns(RuntimeWarning, match="found in sys.modules"):
        runpy.run_module(export.__name__, run_name="__main__")
    (answer,) = given
    arguments = {"folder": str(tmp_path), "out": str(tmp_path / "out")}
    error = answer({**REQUEST, "arguments": {**arguments, "format": "onnx"}})["error"]
    assert error["type"] == "TypeError"
    assert "Traceback (most recent call last):" in error["message"]


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("told", "message", "kind"),
    [
        ("ValueError", "a rule", ValueError),
        ("OSError", "full", OSError),
        ("ImportError", "i", ImportError),
        ("KeyError", "Trace", RuntimeError),
    ],
)
def test_errors_of_the_process_are_raised_here(
    tmp_path, monkeypatch, told, message, kind
):
    def ask(command, env, request):
        assert command == module_command("keras_qkformer.serving.export")
        assert env["KERAS_BACKEND"] == "tensorflow"
        assert request["function"] == "export_saved_model"
        assert request["command"] == sys.argv
        assert request["arguments"] == {
            "folder": str(tmp_path),
            "out": "out",
            "weights": "int8",
            "batch_sizes": [1, 3],
            "top": 2,
            "max_megapixels": 1.5,
        }
        return {"error": {"type": told, "message": message}}

    monkeypatch.setattr(export, "ask_process", ask)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(kind, match=message):
        export_saved_model(tmp_path, "out", "int8", np.array([1, 3]), 2, 1.5)
