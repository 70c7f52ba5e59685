"""The examples of all docstrings, run."""

import doctest
import importlib
import pkgutil
import re

import keras
import numpy as np
import pytest

import keras_qkformer

# Modules whose examples need an extra.
EXTRAS = {
    **{
        f"keras_qkformer.analysis.figures{name}": "matplotlib"
        for name in (
            *("", ".confusion", ".events", ".images", ".sheet", ".spikes"),
            ".training",
        )
    },
    "keras_qkformer.data.examples": "sklearn",
    "keras_qkformer.data.recordings.moving_digits": "sklearn",
    "keras_qkformer.data.sources": "sklearn",
}
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(keras_qkformer.__path__, "keras_qkformer.")
    if not module.name.endswith("__main__")
)


# Parts whose examples run no code of a backend, or only to have something to draw.
INDEPENDENT = re.compile(r"keras_qkformer\.(analysis\.figures|cli|data|events)\b")


def marked(name):
    """The parameter of a module, marked if one backend is enough."""
    marks = [pytest.mark.backend_independent] if INDEPENDENT.match(name) else []
    return pytest.param(name, marks=marks, id=name)


class ShapesAsTuples(doctest.OutputChecker):
    """Every backend prints a shape its own way; the examples have tuples."""

    def check_output(self, want, got, optionflags):
        got = re.sub(r"(?:TensorShape|torch\.Size)\(\[(.*?)\]\)", r"(\1)", got)
        return super().check_output(want, got, optionflags)


@pytest.mark.parametrize("name", [marked(name) for name in MODULES])
def test_examples_of_docstrings_print_what_they_say(name):
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name], reason="the examples need an extra")
    module = importlib.import_module(name)
    ours = {name: getattr(keras_qkformer, name) for name in keras_qkformer.__all__}
    names = {**ours, "np": np, "keras": keras, "ops": keras.ops}
    runner = doctest.DocTestRunner(
        ShapesAsTuples(),
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE,
    )
    for example in doctest.DocTestFinder().find(module, extraglobs=names):
        example.globs = {**names, **example.globs, "ops": keras.ops}
        runner.run(example)
    assert runner.failures == 0
