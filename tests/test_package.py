"""The package as it is installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_qkformer
from keras_qkformer.analysis.report.markup import Markup, page
from keras_qkformer.cli.main import main
from keras_qkformer.manifest import check_folder
from keras_qkformer.presets.folders import kept_weights


def test_runs_from_where_it_should():
    """Under `make test-wheel` this is the installed wheel, not the checkout."""
    location = os.environ.get("EXPECTED_LOCATION")
    if location is None:
        pytest.skip("only the test of the wheel expects a location")
    assert Path(keras_qkformer.__file__).is_relative_to(location)


def test_has_the_version_that_the_changelog_describes_and_a_citation_names():
    root = Path(__file__).parents[1]
    changelog = root / "CHANGELOG.md"
    if not changelog.is_file():
        pytest.skip("not in a checkout")
    version, text = keras_qkformer.__version__, changelog.read_text()
    assert f"## [{version}]" in text
    newest = re.search(r"^## \[(.+?)\] - (\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
    assert newest[1] == version
    citation = (root / "CITATION.cff").read_text()
    assert f"\nversion: {version}\ndate-released: {newest[2]}\n" in citation


def test_has_the_files_to_try_it_with(tmp_path):
    """Also as installed, where `recipes` and `weights` are no folders of a checkout."""
    assert main(["samples", "--out", str(tmp_path)]) == 0
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    for name in ("digits", "dvs_digits", "cifar10_small"):
        assert {f"recipes/{name}.py", f"weights/{name}/model.weights.h5"} <= found
        check_folder(tmp_path / "weights" / name)
        assert name in kept_weights()
    assert {"seven.png", "seven.aedat"} <= found


def test_has_its_type_hints():
    package = Path(keras_qkformer.__file__).parent
    assert (package / "py.typed").is_file() and (package / "__init__.pyi").is_file()


def test_has_the_templates_of_reports():
    text = page("a title", Markup("<main></main>"))
    assert text.startswith("<!doctype html>")
    assert "<main></main>" in text


def run_script(script):
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    "imports",
    [
        "import keras; import keras_qkformer",
        "import keras_qkformer; import keras; keras_qkformer.layers",
    ],
)
def test_layers_are_registered_whichever_is_imported_first(imports):
    """Of a file whose modules have other names today."""
    file = Path(__file__).parent / "golden" / "before" / "classifier.keras"
    model = f"keras.saving.load_model({str(file)!r})"
    assert run_script(f"{imports}; print(type({model}).__name__)") == (
        "QKFormerClassifier\n"
    )


@pytest.mark.parametrize(
    "what",
    [
        "import keras_qkformer",
        "from keras_qkformer.cli.main import make_parser; make_parser()",
    ],
)
def test_package_and_parser_load_no_library(what):
    script = (
        f"{what}; import sys, time; print(time.process_time())\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    seconds, loaded = run_script(script).splitlines()
    assert not {"keras", "tensorflow", "jax", "torch", "numpy"} & set(loaded.split())
    assert float(seconds) < 0.2  # Of the processor, the start of Python included.


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="has no attribute 'QKFormre'"):
        keras_qkformer.QKFormre  # noqa: B018
    assert {*keras_qkformer.__all__} <= {*dir(keras_qkformer)}
