"""One time step at a time: the answers of the whole sequence, a state of one size."""

import keras
import model_harness
import numpy as np
import pytest
from golden_models import SMALL, Golden
from harness import to_numpy
from keras import ops
from model_harness import TINY, settle

from keras_qkformer.models import (
    QKFormerBackbone,
    QKFormerClassifier,
    StreamingQKFormer,
)

EVENTS = {**TINY, "static": False}


def make_model(num_classes=5, dropout=0.0, **changes):
    backbone = QKFormerBackbone(**{**EVENTS, **changes})
    return settle(QKFormerClassifier(backbone, num_classes, dropout))


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


def run(stream, frames, state=None):
    """The logits after every frame, and the last state, as NumPy arrays."""
    step = compiled(stream)
    if state is None:
        state = stream.initial_state(frames.shape[1])
    answers = []
    for frame in frames:
        logits, state = step(ops.convert_to_tensor(frame), state)
        answers.append(to_numpy(logits))
    return answers, {name: to_numpy(value) for name, value in state.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"static": True},
        {"attention": ("channel", "token"), "neuron": "if"},
        {"residual": "pre_activation", "neuron": "plif", "tau": 3.0},
        {"residual": "pre_activation", "static": True, "attention": "self"},
        {"family": "dvs", "image_size": (16, 32), "embed_dim": 32, "dropout": 0.5},
        {"family": "imagenet", "image_size": (8, 16), "static": True},
        {"deformed_shortcut": False, "num_classes": None, "drop_path": 0.3},
    ],
    ids=str,
)
def test_logits_are_those_of_the_whole_sequence_also_beyond_it(changes, float64):
    model = make_model(**changes)
    frames = random_frames(model, steps=5)
    assert len(frames) > model.backbone.time_steps
    answers, state = run(StreamingQKFormer(model), frames)
    expected = whole_sequence(model, frames)
    assert np.ptp(expected, axis=0).max() > 1e-3, "the samples do not differ"
    np.testing.assert_allclose(answers[-1], expected, rtol=0, atol=1e-9)
    trained = model.backbone.time_steps
    expected = call(model, frames[:trained])
    np.testing.assert_allclose(answers[trained - 1], expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(state["steps"], [5, 5, 5])
    np.testing.assert_array_equal(state["mean"], answers[-1])
    assert {str(value.dtype) for value in state.values()} == {"int32", "float64"}


@pytest.mark.parametrize("name", [SMALL, "qkformer_cifar"])
def test_logits_are_those_of_the_authors(name, shared_golden, float64):
    golden = Golden(name, shared_golden)
    model = golden.model()
    frames = np.moveaxis(golden.inputs, 1, 0)
    if model.backbone.static:
        frames = np.stack([golden.inputs] * model.backbone.time_steps)
    answers, _ = run(StreamingQKFormer(model), frames)
    expected = golden.arrays["eval/logits"]
    np.testing.assert_allclose(answers[-1], expected, rtol=0, atol=1e-9)


def test_softly_reset_neurons_go_on_too(float64):
    model = make_model()
    for neuron in StreamingQKFormer(model).neurons.values():
        neuron.v_reset, neuron.v_threshold = None, 0.7
    frames = random_frames(model, steps=3)
    answers, _ = run(StreamingQKFormer(model), frames)
    together = call(model, frames)
    np.testing.assert_allclose(answers[-1], together, atol=1e-9)


def test_neurons_start_from_their_own_rest(float64):
    model = make_model()
    for neuron in StreamingQKFormer(model).neurons.values():
        neuron.v_reset = -0.25
    stream = StreamingQKFormer(model)
    assert float(stream.initial_state(1)["patch_embed1_unit0"][0, 0, 0, 0]) == -0.25
    frames = random_frames(model, steps=3)
    answers, _ = run(stream, frames)
    together = call(model, frames)
    np.testing.assert_allclose(answers[-1], together, atol=1e-9)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_potentials_stay_wide_in_mixed_precision(policy):
    model = make_model(dtype=policy)
    frames = random_frames(model, steps=3)
    stream = StreamingQKFormer(model)
    answers, state = run(stream, frames)
    for name, entry in stream.state_spec.items():
        assert str(state[name].dtype) == entry.dtype in ("float32", "int32"), name
    # 16 bits round differently where the time axis has another length.
    whole = call(model, frames)
    np.testing.assert_allclose(answers[-1], whole, atol=0.05)


def test_state_is_as_large_after_fifty_frames_as_after_one():
    model = make_model()
    frames = random_frames(model, steps=50, batch=1)
    stream = StreamingQKFormer(model)
    sizes = {}
    for count in (1, 50):
        _, state = run(stream, frames[:count])
        assert state.keys() == stream.state_spec.keys()
        sizes[count] = {name: value.nbytes for name, value in state.items()}
    assert sizes[1] == sizes[50]
    one = {k: to_numpy(v).nbytes for k, v in stream.initial_state(1).items()}
    two = {k: to_numpy(v).nbytes for k, v in stream.initial_state(2).items()}
    assert one == sizes[1]
    assert two == {name: 2 * size for name, size in one.items()}


def test_a_step_changes_nothing_but_what_it_returns():
    model = make_model(dropout=0.5)
    stream = StreamingQKFormer(model)
    frames = random_frames(model, steps=4)
    before = [np.array(weight) for weight in model.get_weights()]
    whole = call(model, frames[:3])
    _, state = run(stream, frames[:3])
    given = {name: ops.convert_to_tensor(value) for name, value in state.items()}
    first = stream(frames[3], given)
    second = stream(frames[3], given)
    for a, b in zip(*map(keras.tree.flatten, (first, second)), strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
    for name, value in given.items():
        np.testing.assert_array_equal(to_numpy(value), state[name])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # And the model still starts at rest, with its own number of steps.
    np.testing.assert_array_equal(call(model, frames[:3]), whole)


def test_stream_shares_the_weights_of_the_model():
    model = make_model()
    stream = StreamingQKFormer(model)
    assert [id(w) for w in stream.weights] == [id(w) for w in model.weights]
    model.get_layer("head").bias.assign(np.arange(5))
    frames = random_frames(model, steps=3)
    whole = call(model, frames)
    np.testing.assert_allclose(run(stream, frames)[0][-1], whole, atol=1e-5)


def test_samples_do_not_see_each_other_and_are_reset_alone(float64):
    model = make_model()
    stream = StreamingQKFormer(model)
    frames = random_frames(model, steps=5)
    _, state = run(stream, frames[:2])
    state = stream.reset(
        {name: ops.convert_to_tensor(value) for name, value in state.items()},
        np.array([False, True, False]),
    )
    answers, state = run(stream, frames[2:], state)
    np.testing.assert_array_equal(state["steps"], [5, 3, 5])
    for sample, first in enumerate([0, 2, 0]):
        alone = whole_sequence(model, frames[first:, sample : sample + 1])
        np.testing.assert_allclose(answers[-1][sample], alone[0], atol=1e-9)


def test_two_threads_stream_side_by_side(float64):
    from concurrent.futures import ThreadPoolExecutor

    stream = StreamingQKFormer(make_model())
    frames = random_frames(stream.model, steps=4, batch=2)
    expected = run(stream, frames)[0][-1]

    def alone(sample):
        keras.config.set_floatx("float64")
        return run(stream, frames[:, sample : sample + 1])[0][-1][0]

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(alone, range(2)))
    np.testing.assert_allclose(answers, expected, atol=1e-9)


def test_layer_makes_an_equal_one_and_lives_in_a_functional_model(tmp_path):
    stream = StreamingQKFormer(make_model())
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
    step = keras.Model([frame, state], [logits, after])
    step.save(tmp_path / "step.keras")
    loaded = keras.saving.load_model(tmp_path / "step.keras")
    frame = ops.convert_to_tensor(random_frames(stream.model, steps=1)[0])
    inputs = [frame, stream.initial_state(3)]
    for a, b in zip(
        keras.tree.flatten(loaded(inputs)),
        keras.tree.flatten(stream(*inputs)),
        strict=True,
    ):
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), atol=1e-6)


def test_model_with_batch_state_is_refused():
    with pytest.warns(UserWarning, match="a defect of the authors' code"):
        backbone = QKFormerBackbone(**EVENTS, membrane_state="batch")
    with pytest.raises(
        ValueError, match=r"streamed\. Received: membrane_state='batch'"
    ):
        StreamingQKFormer(QKFormerClassifier(backbone, 5))


def test_what_does_not_fit_is_an_error():
    stream = StreamingQKFormer(make_model())
    state = stream.initial_state(2)
    frame = np.zeros((2, 8, 12, 2), "float32")
    with pytest.raises(ValueError, match=r"8, 12, 2\). Received: \(2, 3, 8, 12, 2\)"):
        stream(np.zeros((2, 3, 8, 12, 2), "float32"), state)
    with pytest.raises(ValueError, match=r"Missing: \['steps'\], unknown: \['v'\]"):
        stream(frame, {"v" if k == "steps" else k: v for k, v in state.items()})
    with pytest.raises(ValueError, match=r"state\['steps'\] .* \(2,\). .* \(3,\)"):
        stream(frame, stream.initial_state(3))
    with pytest.raises(ValueError, match="must be a QKFormerClassifier"):
        StreamingQKFormer(stream.model.backbone)
