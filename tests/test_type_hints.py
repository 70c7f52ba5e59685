"""Type hints of what users call, for their editors and type checkers."""

import ast
from pathlib import Path

import pytest

import keras_qkformer

PACKAGE = Path(keras_qkformer.__file__).parent
# Module -> its names that users call; `None` for all that are public.
TYPED = {
    **dict.fromkeys(("models", "layers", "ops", "events", "convert", "trained")),
    **dict.fromkeys(("backend", "analysis.attention", "serving.client")),
    "analysis.analyze": ["analyze"],
    "predict": ["predict_files", "predict_stream"],
    "predict_live": ["predict_live", "LiveAnswers"],
    "presets.upload": ["upload_preset"],
    "serving.check": ["serve_check"],
    "serving.export": ["export_saved_model", "export_portable"],
    "training.evaluate": ["evaluate"],
    "training.fit": ["fit"],
    "training.recipe": ["load_recipe"],
}
# Of their classes users call the constructor; Keras calls the rest.
CONSTRUCTORS = ("layers", "ops")
pytestmark = pytest.mark.backend_independent


def tree_of(module):
    path = PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text())


def public(module, names):
    """`(module, node)` of the functions and classes, where they are defined."""
    for node in tree_of(module).body:
        if isinstance(node, ast.ImportFrom) and (PACKAGE / module).is_dir():
            inner = node.module.removeprefix("keras_qkformer.")
            wanted = [alias.name for alias in node.names]
            yield from public(inner, wanted) if inner != module else ()
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            if node.name in names if names else not node.name.startswith("_"):
                yield module, node


def functions(node):
    """A function itself; of a class, its constructor and the methods of its own."""
    if isinstance(node, ast.FunctionDef):
        return [node]
    found = [n for n in node.body if isinstance(n, ast.FunctionDef)]
    hints = [n for n in found if "overload" in map(ast.unparse, n.decorator_list)]
    hinted = {n.name for n in hints}
    own = [n for n in found if n.name[0] != "_" and ast.get_docstring(n)]
    return [
        *(n for n in found if n.name == "__init__"),
        *(n for n in own if n.name not in hinted),
        *hints,
    ]


def missing(function):
    """Parameters without a hint, and "returns" where what comes back has none."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    for each in named:
        if each.annotation is None and each.arg not in ("self", "cls"):
            yield each.arg
    if function.returns is None and function.name != "__init__":
        yield "returns"


@pytest.mark.parametrize("module", TYPED)
def test_what_users_call_is_annotated(module):
    found = [*public(module, TYPED[module])]
    assert found
    assert {
        f"{place}.{node.name}.{function.name}": names
        for place, node in found
        for function in functions(node)
        if function.name == "__init__" or module not in CONSTRUCTORS or function is node
        if (names := [*missing(function)])
    } == {}


def test_checkers_see_the_names_that_load_at_first_use():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    imported, listed = set(), None
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            imported |= {alias.name for alias in node.names}
            if node.module != "keras_qkformer":
                for alias in node.names:
                    ours = getattr(keras_qkformer, alias.name)
                    assert ours.__module__.startswith(node.module)
        elif isinstance(node, ast.Assign):
            listed = ast.literal_eval(node.value)
    assert imported == {*listed} == {*keras_qkformer.__all__}
