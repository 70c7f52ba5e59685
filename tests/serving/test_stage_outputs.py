"""Exports that also return stages and masks equal what the analysis finds."""

import json
import re

import numpy as np
import pytest
from harness import to_numpy
from model_harness import settle
from small_models import SMALL_MODELS

from keras_qkformer.analysis.activity import ActivityMeter
from keras_qkformer.analysis.attention import TokenMaps, stage_activity, views_of
from keras_qkformer.analysis.one_pass import one_pass
from keras_qkformer.models import SpikingClassifier
from keras_qkformer.serving import stage_outputs
from keras_qkformer.serving.agreement import in_float64
from keras_qkformer.serving.check_answers import TOLERANCE
from keras_qkformer.serving.export import export_portable
from keras_qkformer.trained import load_trained

pytestmark = pytest.mark.backend_independent  # An export runs on TensorFlow.


def expected(model, inputs):
    """What the analysis finds of one example, under the names of the outputs."""
    seen, meter = one_pass(model, inputs), ActivityMeter(model)
    logits, _ = meter.update(inputs)
    steps = model.backbone.time_steps
    means = [
        np.broadcast_to(each.inputs[0].mean_by_step, (1, steps))
        for each in meter.activities()
    ]
    *others, head = means
    masks = {
        f"mask_{path.rpartition('/')[0]}": view.mask
        for path, view in views_of(model, seen.spikes).items()
        if not isinstance(view, TokenMaps)
    }
    return {
        "logits": logits,
        "logits_of_steps": seen.logits_of_steps,
        **{f"features_{k}": v for k, v in stage_activity(model, inputs).items()},
        **masks,
        "input_means": np.stack(others, -1),
    }, head


def check(outputs, right, head):
    """Compare outputs with what `expected` returned."""
    means = outputs["input_means"]
    outputs = {**outputs, "input_means": means[..., :-1]}
    assert set(outputs) == set(right)
    for name, value in right.items():
        np.testing.assert_allclose(outputs[name], value, atol=2e-5, err_msg=name)
    # The head takes the mean over time of what is told of each step.
    np.testing.assert_allclose(means[..., -1].mean(1), head[:, 0], rtol=1e-5)


@pytest.mark.parametrize("name", ["max_former", "spike_driven_transformer"])
def test_outputs_are_those_of_the_analysis(name):
    model = settle(SMALL_MODELS[name].make())
    images = np.random.default_rng(1).uniform(0, 2, (1, 8, 12, 2)).astype("float32")
    outputs = {k: to_numpy(v) for k, v in stage_outputs.whole(model, images).items()}
    right, head = expected(model, images)
    check(outputs, right, head)
    assert all(np.ptp(value) > 0 for value in right.values())
    told = stage_outputs.describe(model)
    assert set(told) - {"operations"} == set(outputs)
    assert len(told["operations"]) == outputs["input_means"].shape[-1]


def test_an_output_that_is_not_the_models_is_found():
    model = settle(SpikingClassifier.from_preset("qkformer_tiny", time_steps=2))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    fired = {}
    outputs = stage_outputs.whole(model, images, fired)
    outputs = {name: to_numpy(value).copy() for name, value in outputs.items()}
    spikes = {name: to_numpy(fired[each]) for name, each in model.neurons().items()}
    reference = in_float64(model)
    found = stage_outputs.differences(reference, images, spikes, outputs)
    assert found.max() < 1e-5
    for name in outputs.keys() - {"logits"}:
        wrong = outputs[name].copy()
        wrong[1, ..., -1] += 1
        changed = {**outputs, name: wrong}
        found = stage_outputs.differences(reference, images, spikes, changed)
        assert found[0] < 1e-5 and found[1] > TOLERANCE, name
    del changed["input_means"]
    with pytest.raises(KeyError, match="input_means"):
        stage_outputs.differences(reference, images, spikes, changed)


def test_onnx_returns_what_the_analysis_finds(tmp_path):
    pytest.importorskip("tf2onnx", reason="the export needs an extra")
    import onnxruntime

    model = SMALL_MODELS["spike_driven_transformer"].make(static=False, depth=1)
    metadata = {
        "class_names": [*"abc"],
        "preprocessing": {
            "image_size": [8, 12],
            "mean": [0.5, 0.25],
            "std": [1.5, 0.5],
            "max_value": 2.0,
        },
    }
    settle(model).save_to_preset(tmp_path / "preset", metadata)
    out = tmp_path / "out"
    found = export_portable(tmp_path / "preset", out, "onnx", outputs="spikes")
    assert all(each["same_as_with_spikes"] == 3 for each in found.values())
    trained = load_trained(tmp_path / "preset")
    counts = np.random.default_rng(2).poisson(1.0, (1, *trained.model.input_shape[1:]))
    counts = counts.astype("float32")
    right, head = expected(trained.model, trained.prepared(counts))
    told = json.loads((out / "metadata.json").read_text())["outputs"]
    operations = told.pop("operations")
    assert len(operations) == right["input_means"].shape[-1] + 1
    assert operations[-1] == "head" and set(told) == set(right)

    def run(name, **inputs):
        session = onnxruntime.InferenceSession(out / f"{name}.onnx")
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))

    check(run("model", frames=counts), right, head)
    _, state = trained.stream()
    steps = []
    for frame in counts[0]:
        outputs = run("stream", frame=frame[None], **state)
        state = {name: outputs.pop(f"next_{name}") for name in state}
        steps.append(outputs)
    logits = [each.pop("logits") for each in steps]
    streamed = {k: np.concatenate([each[k] for each in steps], 1) for k in steps[0]}
    del right["logits_of_steps"]
    check({"logits": logits[-1], **streamed}, right, head)


@pytest.mark.parametrize(
    ("format", "outputs"), [("litert", "spikes"), ("onnx", "masks")]
)
def test_outputs_that_a_format_lacks_are_refused(tmp_path, format, outputs):
    received = re.escape(f"Received: {outputs!r} with format {format!r}")
    with pytest.raises(ValueError, match=f"'spikes' needs format 'onnx'. {received}"):
        export_portable("no such model", tmp_path / "out", format, outputs=outputs)
