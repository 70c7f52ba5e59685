"""One time step at a time: the answers of the whole sequence, a state of one size."""

import keras
import model_harness
import numpy as np
import pytest
from golden_models import SMALLS, Golden
from harness import to_numpy
from keras import ops
from model_harness import TINY

from keras_qkformer.layers import BatchNorm
from keras_qkformer.models import (
    QKFormerBackbone,
    QKFormerClassifier,
    StreamingQKFormer,
)

EVENTS = {**TINY, "static": False}


def make_model(num_classes=5, dropout=0.0, **changes):
    """A model whose neurons fire.

    Not by `settle`: on JAX its call in training mode would be compiled op by op.
    """
    backbone = QKFormerBackbone(**{**EVENTS, **changes})
    model = QKFormerClassifier(backbone, num_classes, dropout)
    draw = np.random.default_rng(0)
    for norm in model._flatten_layers():
        if isinstance(norm, BatchNorm):
            norm.gamma.assign(np.full(norm.gamma.shape, 4.0))
            norm.beta.assign(draw.normal(0.5, 1.0, norm.beta.shape))
    return model


def random_frames(model, steps, batch=3):
    """Frames `(steps, batch, ...)`, for a model of images the same at every step."""
    shape = (batch, *model.backbone.image_size, model.backbone.in_channels)
    count = 1 if model.backbone.static else steps
    frames = np.random.default_rng(1).normal(0, 3, (count, *shape))
    return np.repeat(frames, steps // count, axis=0).astype(keras.config.floatx())


def call(model, frames):
    """Logits for all frames at once."""
    x = frames[0] if model.backbone.static else np.swapaxes(frames, 0, 1)
    return model_harness.compiled(model)(x)


def whole_sequence(model, frames):
    """Logits of a model like `model` for all frames at once."""
    backbone = QKFormerBackbone.from_config(
        {**model.backbone.get_config(), "time_steps": len(frames)}
    )
    twin = QKFormerClassifier(backbone, model.num_classes)
    twin.set_weights(model.get_weights())
    return call(twin, frames)


def compiled(stream):
    """The stream as a function that each backend compiles in its own way."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(stream)
    if backend == "jax":
        import jax

        return jax.jit(stream)
    import torch

    return torch.no_grad()(stream)


def run(step, frames, state):
    """The logits after every frame, and the last state, as NumPy arrays."""
    state = {name: ops.convert_to_tensor(value) for name, value in state.items()}
    answers = []
    for frame in frames:
        logits, state = step(ops.convert_to_tensor(frame), state)
        answers.append(to_numpy(logits))
    return answers, {name: to_numpy(value) for name, value in state.items()}


@pytest.fixture(scope="module")
def stream():
    """A stream of event frames in float32, and what it is compiled to."""
    made = StreamingQKFormer(make_model(dropout=0.5))
    return made, compiled(made)


@pytest.mark.parametrize(
    "changes",
    [
        {"family": "dvs", "image_size": (16, 32), "embed_dim": 32, "dropout": 0.5},
        {"static": True, "attention": ("channel", "token"), "neuron": "if"},
        {"residual": "pre_activation", "neuron": "plif", "tau": 3.0},
        {
            "static": True,
            "family": "imagenet",
            "image_size": (8, 16),
            "residual": "pre_activation",
            "attention": "self",
            "deformed_shortcut": False,
            "drop_path": 0.3,
            "num_classes": None,
        },
    ],
    ids=str,
)
def test_logits_are_those_of_the_whole_sequence_also_beyond_it(changes, float64):
    model = make_model(**changes)
    frames = random_frames(model, steps=4)
    assert len(frames) > model.backbone.time_steps
    stream = StreamingQKFormer(model)
    answers, state = run(compiled(stream), frames, stream.initial_state(3))
    expected = whole_sequence(model, frames)
    assert np.ptp(expected, axis=0).max() > 1e-3, "the samples do not differ"
    np.testing.assert_allclose(answers[-1], expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(state["steps"], [4, 4, 4])
    np.testing.assert_array_equal(state["mean"], answers[-1])
    assert {str(value.dtype) for value in state.values()} == {"int32", "float64"}


@pytest.mark.parametrize("name", SMALLS)
def test_logits_are_those_of_the_authors(name, shared_golden, float64):
    golden = Golden(name, shared_golden)
    model = golden.model()
    stream = StreamingQKFormer(model)
    if model.backbone.static:  # An image is the same at every step.
        frames = np.stack([golden.inputs] * golden.config["time_steps"])
    else:
        frames = np.moveaxis(golden.inputs, 1, 0)
    answers, _ = run(compiled(stream), frames, stream.initial_state(len(golden.inputs)))
    expected = golden.arrays["eval/logits"]
    np.testing.assert_allclose(answers[-1], expected, rtol=0, atol=1e-9)


def test_neurons_start_from_their_own_rest_and_keep_their_reset(float64):
    model = make_model()
    for name, neuron in StreamingQKFormer(model).neurons.items():
        neuron.v_reset = None if "mlp" in name else -0.25
    stream = StreamingQKFormer(model)
    state = stream.initial_state(3)
    assert np.unique(to_numpy(state["patch_embed1_unit0"])).tolist() == [-0.25]
    assert np.unique(to_numpy(state["stage1_block1_mlp_expand"])).tolist() == [0.0]
    frames = random_frames(model, steps=4)
    mask = np.array([False, True, False])
    step = compiled(stream)
    _, state = run(step, frames[:1], state)
    state = {name: ops.convert_to_tensor(value) for name, value in state.items()}
    answers, state = run(step, frames[1:], stream.reset(state, mask))
    np.testing.assert_array_equal(state["steps"], [4, 3, 4])
    # The whole model starts all samples at once, and none of them sees another.
    np.testing.assert_allclose(
        answers[-1][mask], call(model, frames[1:])[mask], rtol=0, atol=1e-9
    )
    answers_of_all, _ = run(step, frames, stream.initial_state(3))
    np.testing.assert_array_equal(answers[-1][~mask], answers_of_all[-1][~mask])


def test_potentials_stay_wide_in_mixed_precision():
    stream = StreamingQKFormer(make_model(dtype="mixed_bfloat16"))
    frames = random_frames(stream.model, steps=3)
    answers, state = run(compiled(stream), frames, stream.initial_state(3))
    for name, entry in stream.state_spec.items():
        assert str(state[name].dtype) == entry.dtype, name
        assert entry.dtype == ("int32" if name == "steps" else "float32")
    # 16 bits round differently where the time axis has another length.
    whole = call(stream.model, frames)
    np.testing.assert_allclose(answers[-1], whole, rtol=0, atol=0.05)


def test_without_a_state_a_stream_starts_from_rest(stream):
    stream, _ = stream
    (frame,) = random_frames(stream.model, steps=1)
    logits, state = stream(frame, None)
    expected, same = stream(frame, stream.initial_state(len(frame)))
    np.testing.assert_array_equal(to_numpy(logits), to_numpy(expected))
    assert state.keys() == same.keys()
    for name in state:
        np.testing.assert_array_equal(to_numpy(state[name]), to_numpy(same[name]))


def test_state_is_as_large_after_fifty_frames_as_after_one(stream):
    stream, step = stream
    frames = random_frames(stream.model, steps=50)
    first = stream.initial_state(3)
    sizes = {name: to_numpy(value).nbytes for name, value in first.items()}
    for count in (1, 50):
        _, state = run(step, frames[:count], first)
        assert {name: value.nbytes for name, value in state.items()} == sizes
    for name, value in stream.initial_state(6).items():
        assert to_numpy(value).nbytes == 2 * sizes[name], name


def test_a_step_changes_nothing_but_what_it_returns(stream):
    stream, step = stream
    model = stream.model
    frames = random_frames(model, steps=4)
    before = [np.array(weight) for weight in model.get_weights()]
    whole = call(model, frames[:3])
    answers, state = run(step, frames[:3], stream.initial_state(3))
    np.testing.assert_allclose(answers[-1], whole, rtol=0, atol=1e-5)
    given = {name: ops.convert_to_tensor(value) for name, value in state.items()}
    frame = ops.convert_to_tensor(frames[3])
    first, second = step(frame, given), step(frame, given)
    for a, b in zip(*map(keras.tree.flatten, (first, second)), strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
    for name, value in given.items():
        np.testing.assert_array_equal(to_numpy(value), state[name])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # And the model still starts at rest, with its own number of steps.
    np.testing.assert_array_equal(call(model, frames[:3]), whole)


def test_samples_do_not_see_each_other(stream):
    stream, step = stream
    frames = random_frames(stream.model, steps=3)
    order = np.array([2, 0, 1])
    straight, _ = run(step, frames, stream.initial_state(3))
    shuffled, _ = run(step, frames[:, order], stream.initial_state(3))
    assert np.ptp(straight[-1], axis=0).max() > 1e-3, "the samples do not differ"
    np.testing.assert_allclose(shuffled[-1], straight[-1][order], atol=1e-5)


def test_layer_makes_an_equal_one_and_lives_in_a_functional_model(stream, tmp_path):
    stream, step = stream
    assert [id(w) for w in stream.weights] == [id(w) for w in stream.model.weights]
    frame = keras.Input((8, 12, 2))
    state = {
        name: keras.Input(entry.shape, dtype=entry.dtype, name=name)
        for name, entry in stream.state_spec.items()
    }
    logits, after = stream(frame, state)
    assert logits.shape == (None, 5)
    assert {n: s.shape for n, s in after.items()} == {
        n: s.shape for n, s in state.items()
    }
    model = keras.Model([frame, state], [logits, after])
    model.save(tmp_path / "step.keras")
    loaded = keras.saving.load_model(tmp_path / "step.keras")
    frames = random_frames(stream.model, steps=1)
    first = {k: to_numpy(v) for k, v in stream.initial_state(3).items()}
    logits, after = loaded.predict_on_batch([frames[0], first])
    answers, expected = run(step, frames, first)
    np.testing.assert_allclose(logits, answers[0], atol=1e-6)
    for name, value in expected.items():
        np.testing.assert_allclose(after[name], value, atol=1e-6, err_msg=name)


def test_model_with_batch_state_is_refused():
    with pytest.warns(UserWarning, match="a defect of the authors' code"):
        backbone = QKFormerBackbone(**EVENTS, membrane_state="batch")
    with pytest.raises(
        ValueError, match=r"streamed\. Received: membrane_state='batch'"
    ):
        StreamingQKFormer(QKFormerClassifier(backbone, 5))


def test_what_does_not_fit_is_an_error(stream):
    stream, _ = stream
    state = stream.initial_state(2)
    frame = np.zeros((2, 8, 12, 2), "float32")
    with pytest.raises(ValueError, match=r"8, 12, 2\). Received: \(2, 3, 8, 12, 2\)"):
        stream(np.zeros((2, 3, 8, 12, 2), "float32"), state)
    with pytest.raises(ValueError, match=r"Missing: \['steps'\], unknown: \['v'\]"):
        stream(frame, {"v" if k == "steps" else k: v for k, v in state.items()})
    with pytest.raises(ValueError, match=r"state\['steps'\] .* \(2,\). .* \(3,\)"):
        stream(frame, stream.initial_state(3))
    with pytest.raises(ValueError, match="must be a SpikingClassifier"):
        StreamingQKFormer(stream.model.backbone)
