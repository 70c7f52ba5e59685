"""Exceptions for one backend: each replaces a function that all others share."""

import ast
from pathlib import Path

import numpy as np
import pytest
from harness import gradients

import keras_qkformer
from keras_qkformer.ops.by_backend import custom_gradient

OPS = Path(keras_qkformer.__file__).parent / "ops"
EXCEPTIONS = ("on_tensorflow.py", "on_jax.py", "on_torch.py")


def functions(path):
    nodes = ast.parse(path.read_text()).body
    return [node for node in nodes if isinstance(node, ast.FunctionDef)]


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", EXCEPTIONS)
def test_each_exception_takes_the_place_of_a_general_function(name):
    general = {
        function.name: function
        for path in OPS.parent.rglob("*.py")
        for function in functions(path)
        if any(ast.unparse(d) == "by_backend" for d in function.decorator_list)
    }
    special = [f for f in functions(OPS / name) if "general" in ast.unparse(f.args)]
    assert special
    for function in special:
        mine, theirs = function.args, general[function.name].args
        names = [arg.arg for arg in mine.args]
        assert names == ["general", *(arg.arg for arg in theirs.args)]
        assert bool(mine.vararg) == bool(theirs.vararg)
        assert ast.get_docstring(function), function.name


def test_gradients_of_our_own_come_one_for_each_argument():
    @custom_gradient
    def product(x, y):
        return x * y, lambda upstream: (10 * upstream * y, 20 * upstream * x)

    def loss(x, y):
        return product(x, y), None

    value, _, grads = gradients(loss, np.float32(2), np.float32(3))
    assert float(value) == 6
    assert [float(grad) for grad in grads] == [30, 40]
