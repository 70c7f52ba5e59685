"""Neurons that PyTorch compiles: the same numbers, and a way on without a compiler."""

import os
import subprocess
import sys

import keras
import pytest

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the other backends compile themselves"
)

CODE = """
import sys
import numpy as np
import torch
from keras_qkformer.ops import Normalization, lif_sequence, on_torch

def run(x, state, gamma, upstream, elements):
    on_torch.COMPILED_ELEMENTS = elements
    x, state, gamma = (a.clone().requires_grad_() for a in (x, state, gamma))
    flat = x.detach().reshape(-1, x.shape[-1])
    norm = Normalization(
        mean=flat.mean(0), variance=flat.var(0, unbiased=False), gamma=gamma,
        beta=torch.full_like(gamma, 0.8), epsilon=1e-5, of_input=True,
    )
    spikes, last = lif_sequence(x, state, normalization=norm, return_state=True)
    ((spikes * upstream).sum() + last.sum()).backward()
    return spikes.detach(), last.detach(), x.grad, state.grad, gamma.grad

generator = torch.Generator().manual_seed(0)
draw = lambda *s: torch.randn(*s, generator=generator, dtype=torch.float64)
for size in (5, 6):  # The second has no program of its own.
    shape = (3, 4, size, 7, 8)
    inputs = draw(*shape), draw(3, *shape[2:]), draw(8), draw(*shape)
    compiled, eager = run(*inputs, 0), run(*inputs, 10**9)
    assert 0 < eager[0].mean() < 1
    torch.testing.assert_close(compiled, eager, rtol=1e-12, atol=1e-12)
print(torch._dynamo.utils.counters["stats"]["unique_graphs"])
"""


def run(**variables):
    environment = {k: v for k, v in os.environ.items() if k != "TORCH_COMPILE_DISABLE"}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout), done.stderr


def test_compiled_neurons_give_the_same_spikes_and_gradients():
    programs, warnings = run()
    assert programs == 2  # Forward and backward, for both sizes.
    assert "run slower" not in warnings


@pytest.mark.parametrize(("calls", "is_compiled"), [(63, False), (64, True)])
def test_few_calls_are_not_worth_a_compilation(monkeypatch, calls, is_compiled):
    from keras_qkformer.ops import lif_sequence, on_torch
    from keras_qkformer.ops.expected_calls import expecting

    compiled = []
    monkeypatch.setattr(on_torch, "compiled", lambda f: compiled.append(f) or f)
    monkeypatch.setattr(on_torch, "COMPILED_ELEMENTS", 2**4)
    monkeypatch.setattr(on_torch, "COMPILED_IN_ALL", 2**10)
    with expecting(calls):
        lif_sequence(keras.ops.ones((2, 4, 2)))
    assert bool(compiled) == is_compiled
    compiled.clear()
    lif_sequence(keras.ops.ones((2, 4, 2)))
    assert compiled  # It is not known how often it will be called.


def test_without_a_compiler_neurons_run_as_they_are(tmp_path):
    _, warnings = run(
        CXX=str(tmp_path / "none"), TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache")
    )
    assert warnings.count("PyTorch can't compile the neurons, so they run slower") == 2


def test_pytorch_without_an_option_of_the_newest_compiles_too(monkeypatch):
    import torch

    from keras_qkformer.ops.on_torch import compiled

    asked = []

    def older(function, *, dynamic=None):
        asked.append(dynamic)
        return function

    monkeypatch.setattr(torch, "compile", older)
    assert compiled(lambda x: 2 * x)(torch.ones(1)).item() == 2
    assert asked == [True]
