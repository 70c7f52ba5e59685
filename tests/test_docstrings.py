"""What docstrings of public functions must say: `Args` and `Raises`."""

import ast
from pathlib import Path

import pytest

import keras_qkformer

PACKAGE = Path(keras_qkformer.__file__).parent
# Every command has these two; `cli/__init__.py` says what they take.
OF_COMMANDS = {"add", "run"}

pytestmark = pytest.mark.backend_independent


def public_functions(path):
    """`(name, node)` of the public functions of a module and of its public classes.

    Methods of a class are public if nobody else defines what they do: those that Keras
    calls, properties and overridden ones have no arguments of their own to describe.
    """
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node


def needs_args(node):
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return bool(named or arguments.vararg or arguments.kwarg)


def raises(node):
    """Whether the function itself raises `ValueError` and the like."""
    inner = [n for n in ast.walk(node) if n is not node]
    hidden = {
        id(m)
        for n in inner
        if isinstance(n, ast.FunctionDef | ast.Lambda)
        for m in ast.walk(n)
    }
    for n in inner:
        if isinstance(n, ast.Raise) and n.exc is not None and id(n) not in hidden:
            call = n.exc.func if isinstance(n.exc, ast.Call) else n.exc
            if getattr(call, "id", "") in ("ValueError", "OSError", "ImportError"):
                return True
    return False


def missing(path):
    for name, node in public_functions(path):
        if path.parent.name == "cli" and name in OF_COMMANDS:
            continue
        text = ast.get_docstring(node) or ""
        if needs_args(node) and "Args:" not in text:
            yield f"{name}: Args"
        if raises(node) and "Raises:" not in text and not text.startswith("Raise "):
            yield f"{name}: Raises"


@pytest.mark.parametrize(
    "path",
    sorted(PACKAGE.rglob("*.py")),
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_public_functions_say_what_they_take_and_raise(path):
    assert list(missing(path)) == []
