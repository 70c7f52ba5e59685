"""Steps that PyTorch compiles as a whole: how many graphs, and the same numbers."""

import keras
import numpy as np
import pytest

from keras_qkformer.layers import BatchNorm
from keras_qkformer.models import SpikingClassifier
from keras_qkformer.models.compiled_model import CompiledModel
from tests.small_models import SMALL_MODELS

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the other backends compile themselves"
)
QKFORMER = {
    "image_size": (8, 12),
    "in_channels": 2,
    "time_steps": 2,
    "family": "cifar",
    "embed_dim": 16,
    "depths": (1, 1),
    "num_heads": 2,
    "num_classes": 3,
    "dropout": 0.3,
    "drop_path": 0.2,
}


@pytest.fixture
def graphs(monkeypatch):
    """The kind of every compiled graph: PyTorch traces, and runs them as they are."""
    import torch
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    from keras_qkformer.ops import program_on_torch

    compiled = []

    def compiler(kind):
        def compile_graph(graph, inputs):
            compiled.append(kind)
            return make_boxed_func(graph.forward)

        return compile_graph

    backend = aot_autograd(
        fw_compiler=compiler("forward"),
        bw_compiler=compiler("backward"),
        inference_compiler=compiler("inference"),
        keep_inference_input_mutations=True,
    )
    monkeypatch.setattr(program_on_torch, "compile_graphs", backend)
    with torch._dynamo.config.patch(disable=False):
        yield compiled


def compiled(model, jit_compile=True, optimizer="adam"):
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
        jit_compile=jit_compile,
    )
    return model


def small(layer=keras.layers.ReLU, **options):
    """A model of Keras's layers, which is traced in no time."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = layer()(keras.layers.Dense(4)(inputs))
    x = keras.layers.Dense(3)(x)
    return compiled(CompiledModel(inputs, x), **options)


def examples(model, count):
    x = np.random.default_rng(0).normal(0.5, 1.0, (count, *model.input_shape[1:]))
    return x, np.arange(count) % 3


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(v) for v in variables]


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def told(caplog):
    """What our logger said; PyTorch has others."""
    mine = (r for r in caplog.records if r.name.startswith("keras_qkformer"))
    return [record.getMessage() for record in mine]


@pytest.mark.parametrize("family", SMALL_MODELS)
def test_each_direction_is_one_graph_with_the_same_numbers(family, graphs, float64):
    # Fewer operations to trace: the next test has QKFormer with more, and an optimizer
    # that is compiled.
    less = {"time_steps": 1, "depth": 1}
    arguments = SMALL_MODELS[family].arguments
    less = {name: value for name, value in less.items() if name in arguments}

    def run(jit_compile):
        keras.utils.set_random_seed(0)
        model = compiled(SMALL_MODELS[family].make(**less), jit_compile, "sgd")
        x, y = examples(model, 2)
        predicted = model.predict_on_batch(x)
        logs = model.train_on_batch(x, y)
        gradients = [v.value.grad.clone() for v in model.trainable_variables]
        return [predicted, logs, *gradients, *state(model)]

    ours = run(jit_compile=True)
    assert graphs == ["inference", "forward", "backward"]
    assert_equal(ours, run(jit_compile=False))


def test_fit_evaluate_and_predict_are_those_of_keras(graphs, float64):
    def run(jit_compile):
        adamw = keras.optimizers.AdamW(1e-3, weight_decay=0.1, global_clipnorm=1.0)
        keras.utils.set_random_seed(0)
        model = SpikingClassifier.from_preset("qkformer_tiny", **QKFORMER)
        compiled(model, jit_compile, adamw)
        x, y = examples(model, 5)
        options = {"batch_size": 2, "verbose": 0}  # The last batch is a smaller one.
        history = model.fit(x, y, epochs=2, shuffle=False, **options).history
        return [
            *history.values(),
            model.evaluate(x, y, **options),
            model.predict(x, **options),
            *state(model),  # With the seeds of Dropout.
        ]

    ours = run(jit_compile=True)
    assert graphs == ["forward", "backward", "inference", "inference"]
    assert_equal(ours, run(jit_compile=False))


def test_another_batch_size_is_compiled_if_it_comes_twice_in_a_row(graphs):
    model = small()
    x, y = examples(model, 4)
    for count, programs in ((2, 1), (1, 1), (2, 1), (1, 1), (4, 1), (4, 2), (3, 2)):
        expected = model(x[:count])
        np.testing.assert_allclose(
            model.predict_on_batch(x[:count]), expected.detach(), rtol=1e-6
        )
        assert len(graphs) == programs
    del graphs[:]
    for count, programs in ((2, 3), (1, 3), (2, 3), (1, 3), (1, 5)):
        model.train_on_batch(x[:count], y[:count])
        assert len(graphs) == programs


@pytest.mark.filterwarnings("ignore:.*a defect of the authors' code")
def test_a_batch_whose_examples_see_each_other_is_not_filled_up(graphs, float64):
    changes = {"membrane_state": "batch", "attention": "self", "depths": (1,)}
    model = SpikingClassifier.from_preset("qkformer_tiny", **{**QKFORMER, **changes})
    x, _ = examples(model, 3)
    for layer in model._flatten_layers():
        if isinstance(layer, BatchNorm):  # So that enough neurons fire.
            layer.gamma.assign(np.full(layer.gamma.shape, 4.0))
    model.calibrate(x)
    compiled(model)
    whole = model.predict_on_batch(x)
    assert graphs == ["inference"]
    expected = keras.ops.convert_to_numpy(model(x[:2], training=False))
    assert np.abs(whole[:2] - expected).max() > 1e-4
    assert_equal(model.predict_on_batch(x[:2]), expected)


def test_compile_makes_new_programs(graphs):
    model = small()
    x, y = examples(model, 2)
    model.train_on_batch(x, y)
    compiled(model, optimizer=keras.optimizers.Adam(0.0))
    before = model.get_weights()
    model.train_on_batch(x, y)
    assert_equal(model.get_weights(), before)
    assert len(graphs) == 6


@keras.saving.register_keras_serializable(package="tests")
class Reads(keras.layers.Layer):
    """Decides by the values of its input, which a graph can't."""

    def call(self, inputs):
        return inputs * 2.0 if float(inputs[0, 0].detach()) > 0 else inputs


@keras.saving.register_keras_serializable(package="tests")
class AddsLoss(keras.layers.Layer):
    def call(self, inputs):
        self.add_loss(keras.ops.mean(inputs))
        return inputs


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Reads, "what it does depends on the values of tensors"),
        (AddsLoss, "NotImplementedError: a layer adds a loss of its own"),
        (lambda: keras.layers.GaussianNoise(1.0, seed=1), "the values of tensors"),
    ],
)
def test_what_cannot_be_compiled_runs_as_before(layer, reason, graphs, caplog):
    def run(jit_compile):
        model = small(layer, jit_compile=jit_compile)
        x, y = examples(model, 4)
        history = model.fit(x, y, batch_size=2, shuffle=False, verbose=0, epochs=2)
        return [*history.history.values(), *state(model)]

    ours = run(jit_compile=True)
    (said,) = told(caplog)
    assert said.startswith("PyTorch can't compile the training step as one program, ")
    assert said.endswith(reason)
    assert not graphs
    assert_equal(ours, run(jit_compile=False))


def test_gradients_that_accumulate_are_compiled_and_applied_by_keras(graphs, caplog):
    def run(jit_compile):
        optimizer = keras.optimizers.Adam(0.1, gradient_accumulation_steps=2)
        model = small(jit_compile=jit_compile, optimizer=optimizer)
        x, y = examples(model, 6)
        model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
        return state(model)

    ours = run(jit_compile=True)
    assert graphs == ["forward", "backward"]
    (said,) = told(caplog)
    assert said.startswith("PyTorch can't compile the optimizer as one program, ")
    for a, b in zip(ours, run(jit_compile=False), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_on_a_cpu_and_with_the_variable_nothing_is_compiled(graphs):
    import torch

    model = small(jit_compile="auto")
    assert not model.jit_compile
    model.predict_on_batch(examples(model, 2)[0])
    with torch._dynamo.config.patch(disable=True):  # TORCH_COMPILE_DISABLE=1
        model = small()
        model.predict_on_batch(examples(model, 2)[0])
    assert not graphs


def test_inductor_finds_what_it_compiled_before(tmp_path, monkeypatch, caplog):
    import torch

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    counters = torch._dynamo.utils.counters
    counters.clear()
    with torch._dynamo.config.patch(disable=False):
        for _ in range(2):
            model = small()
            x, _ = examples(model, 2)
            expected = model(x).detach()
            np.testing.assert_allclose(model.predict_on_batch(x), expected, rtol=1e-5)
    assert not told(caplog)
    names = "fxgraph_cache_miss", "fxgraph_cache_hit", "fxgraph_cache_bypass"
    assert [counters["inductor"][name] for name in names] == [1, 1, 0]
