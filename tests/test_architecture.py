"""Who may import whom: the fences between the parts, read from the source."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import keras_qkformer

PACKAGE = Path(keras_qkformer.__file__).parent
NAME = "keras_qkformer"
ANYTHING = {
    *("analysis", "backend", "convert", "data", "events", "files", "layers", "models"),
    *(
        "ops",
        "predict",
        "predict_live",
        "provenance",
        "serving",
        "trained",
        "training",
        "mistakes",
    ),
    *("printable", "child_process", "zip_file", "user_modules", "kept_examples"),
    "notices",
    *("forms", "json_files", "manifest", "stages", "presets"),
}
# What each part may import of the package, besides itself.
ALLOWED = {
    "ops": set(),
    "layers": {"ops"},
    "models": {
        *("layers", "ops", "files", "presets", "printable", "__version__"),
        *("forms", "json_files", "manifest", "safetensors_file", "weights_limits"),
    },
    "presets": {
        *("files", "forms", "json_files", "manifest", "mistakes", "printable"),
        "published_data",
    },
    "convert": {
        *("models", "layers", "ops", "files", "manifest", "printable", "zip_file"),
        *("stages", "presets", "published_data", "safetensors_file", "stored_array"),
        "weights_limits",
    },
    "analysis": {"models", "layers", "ops", "files", "presets", "printable"},
    "events": {"child_process", "printable", "zip_file"},
    "files": {"partial_folders", "printable"},
    "partial_folders": set(),
    "child_process": set(),
    "user_modules": {"printable"},
    "forms": set(),
    "json_files": {"files", "printable"},
    "manifest": {"files", "forms", "json_files", "partial_folders"},
    "mistakes": {"printable"},
    "printable": set(),
    "safetensors_file": {"printable", "stored_array"},
    "stages": set(),
    "stored_array": {"printable"},
    "weights_limits": set(),
    "zip_file": {"printable"},
    "notices": set(),
    "kept_examples": {"printable", "zip_file"},
    "provenance": {"__version__"},
    "published_data": set(),
    "backend": {"files"},
    "data": {
        *("events", "files", "published_data", "printable", "zip_file", "mistakes"),
        *("json_files", "partial_folders", "user_modules"),
    },
    "trained": {
        *("models", "data", "events", "backend", "printable", "presets"),
        *("forms", "json_files", "manifest"),
    },
    "predict": {
        *("trained", "data", "events", "models", "mistakes", "printable", "serving"),
    },
    "predict_live": {"events", "predict", "trained"},
    "training": {
        *("data", "events", "models", "layers", "ops", "__version__"),
        *("trained", "backend", "files", "provenance", "predict", "printable"),
        *("mistakes", "forms", "json_files", "manifest", "user_modules", "stages"),
        *("partial_folders", "presets"),
    },
    "serving": {
        *("data", "events", "models", "layers", "files", "provenance", "trained"),
        *("mistakes", "printable", "child_process", "user_modules", "kept_examples"),
        "notices",
        *("forms", "json_files", "manifest", "stages", "presets"),
    },
    "cli": ANYTHING | {"__version__"},
    "__init__": set(),
    "__main__": {"cli"},
}
# One callback tells TensorBoard how often neurons fire.
ALSO = {"training/tensorboard.py": f"{NAME}.analysis.firing_rate"}
ONLY_KERAS = ("ops", "layers", "models")
# Every exception for one backend is in one of the first three files, or in one that it
# alone imports.
ALSO_THIS = {
    "ops/on_tensorflow.py": {"tensorflow"},
    "ops/on_jax.py": {"jax"},
    "ops/neuron_on_tpu.py": {"jax"},
    "ops/on_torch.py": {"torch"},
    "ops/program_on_torch.py": {"torch"},
    "ops/steps_on_torch.py": {"torch"},
}
# Where the edge is chosen, and where a training's record names the backend.
ASK_FOR_BACKEND = {"ops/by_backend.py", "models/classifier.py"}
ONLY_NUMPY = {
    str(path.relative_to(PACKAGE)): set() for path in (PACKAGE / "events").glob("*.py")
}
ONLY_NUMPY["events/aedat4_process.py"] = {"aedat"}  # The extra.
ONLY_NUMPY["events/hdf5_process.py"] = {"h5py", "hdf5plugin"}  # Keras brings the first.
ONLY_HERE = {
    "matplotlib": "analysis/figures",
    "keras_cv": "data/images/keras_cv_policy.py",
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """All modules that a file imports, wherever in it, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute here"
            if node.module == NAME:
                found |= {f"{NAME}.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def each(path):
    return str(path.relative_to(PACKAGE))


@pytest.mark.backend_independent
@pytest.mark.parametrize("path", MODULES, ids=each)
def test_parts_import_only_what_they_may(path):
    part = part_of(path)
    found = imports(path) - {ALSO.get(each(path))}
    own = {name.split(".")[1] for name in found if name.startswith(f"{NAME}.")}
    assert own <= ALLOWED[part] | {part}


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    "path", [p for p in MODULES if part_of(p) in ONLY_KERAS], ids=each
)
def test_the_model_needs_only_keras(path):
    roots = {name.split(".")[0] for name in imports(path)}
    own = ALSO_THIS.get(each(path), set())
    assert roots - set(sys.stdlib_module_names) <= {"keras", "numpy", NAME} | own


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    "path", [p for p in MODULES if part_of(p) in ONLY_KERAS], ids=each
)
def test_the_model_does_not_ask_which_backend_runs(path):
    called = {
        ast.unparse(node.func).split(".")[-1]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    }
    assert "backend" not in called or each(path) in ASK_FOR_BACKEND
    # Nor does it import by a name that the test above can't see.
    assert "import_module" not in called


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", ONLY_NUMPY)
def test_events_need_only_numpy(name):
    roots = {found.split(".")[0] for found in imports(PACKAGE / name)}
    assert roots - set(sys.stdlib_module_names) <= {"numpy", NAME} | ONLY_NUMPY[name]


@pytest.mark.backend_independent
@pytest.mark.parametrize("path", MODULES, ids=each)
def test_a_heavy_library_has_one_place(path):
    roots = {name.split(".")[0] for name in imports(path)}
    for library, place in ONLY_HERE.items():
        assert library not in roots or each(path).startswith(place)


@pytest.mark.backend_independent
@pytest.mark.parametrize("path", MODULES, ids=each)
def test_nothing_imports_commands_recipes_or_tests(path):
    found = imports(path)
    roots = {name.split(".")[0] for name in found}
    assert not roots & {"recipes", "benchmarks", "tests", "harness"}
    is_command = part_of(path) in ("cli", "__main__")
    assert is_command or not any(n.startswith(f"{NAME}.cli") for n in found)


@pytest.mark.backend_independent
def test_no_module_imports_itself_by_way_of_others():
    names = {name_of(path): path for path in MODULES}
    below = {
        # Of a package, its parts may be imported while it is.
        name: {n for n in found_modules(path, names) if not name.startswith(f"{n}.")}
        for name, path in names.items()
    }
    done = set()

    def visit(name, way):
        assert name not in way, " -> ".join([*way, name])
        if name not in done:
            for other in sorted(below[name] - {name}):
                visit(other, [*way, name])
            done.add(name)

    for name in names:
        visit(name, [])


def name_of(path):
    dotted = ".".join([NAME, *path.relative_to(PACKAGE).with_suffix("").parts])
    return dotted.removesuffix(".__init__")


def found_modules(path, names):
    """The modules of the package that a file imports, or imports names from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in names:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in names else node.module


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    "path",
    [*MODULES, *sorted(Path(__file__).parent.rglob("*.py"))],
    ids=lambda path: "/".join(path.parts[-3:]),
)
def test_private_names_stay_in_their_module(path):
    tree = ast.parse(path.read_text())
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(NAME):
            for alias in node.names:
                assert not is_private(alias.name), (alias.name, node.lineno)
                modules.add(alias.asname or alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            is_ours = node.value.id in modules and node.value.id.islower()
            assert not (is_ours and is_private(node.attr)), (node.attr, node.lineno)


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.backend_independent
def test_every_module_says_what_it_holds():
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text())), path


@pytest.mark.backend_independent
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_import_leaves_tensorflow_alone_under_another_backend(backend):
    done = subprocess.run(
        [sys.executable, "-c", f"import {NAME}.models, sys; print(*sys.modules)"],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert f"{NAME}.models" in done.stdout.split()
    assert "tensorflow" not in done.stdout.split()


def test_text_files_are_in_utf8_whatever_the_system_is():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            named = any(word.arg == "encoding" for word in node.keywords)
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            where = f"{path}, line {node.lineno}"
            if name in ("read_text", "write_text"):
                is_ours = isinstance(node.func, ast.Name)  # That of `files`.
                assert named or is_ours or {"utf-8", "ascii"} & {*given}, where
            elif isinstance(node.func, ast.Name) and name == "open":
                assert named or not {"r", "w", "a"} & {*given}, where
