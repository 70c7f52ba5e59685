"""Sources of the user's own: by a name, or as a function of a module that is named."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import keras_qkformer.data.source as data_source
from keras_qkformer.cli.main import main
from keras_qkformer.data.examples import Examples
from keras_qkformer.data.settings import Data, EventAugmentation
from keras_qkformer.data.source import (
    NAMES,
    REGISTERED,
    OnDemand,
    Source,
    check_name,
    register_source,
)
from keras_qkformer.data.sources import SOURCES, get_source, load_split
from keras_qkformer.mistakes import is_mistake
from keras_qkformer.trained import BEST_FOLDER
from keras_qkformer.training.recipe import load_recipe
from keras_qkformer.training.workdir import read_recipe, write_recipe
from keras_qkformer.user_modules import import_user_module

pytestmark = pytest.mark.backend_independent
ROOT = Path(__file__).parents[2]
RECIPE = """
from keras_qkformer.training.recipe import Data, Optimizer, Recipe

{before}
recipe = Recipe(
    preset="qkformer_tiny",
    data=Data(
        name="{name}",
        train="train[:75%]",
        validation="train[75%:]",
        test="test",
        batch_size=8,
    ),
    optimizer=Optimizer(epochs=2, learning_rate=1e-3),
)
"""
MODULE = """
from pathlib import Path

import numpy as np

from keras_qkformer.data.source import Source

Path(__file__).with_suffix(".ran").touch()


def squares():
    def load(split, bounds):
        images = np.zeros((40, 8, 8, 1), "uint8")
        start, stop = bounds(40)
        return images[start:stop], np.arange(start, stop) % 10

    return Source(class_names=tuple("0123456789"), mean=(0.5,), std=(0.3,), load=load)
"""


def source_of(count=40, **changes):
    def load(split, bounds):
        start, stop = bounds(count)
        return np.zeros((stop - start, 8, 8, 1), "uint8"), np.arange(start, stop) % 2

    return Source(
        **{
            **{"class_names": ("even", "odd"), "mean": (0.5,), "std": (0.3,)},
            **{"load": load, **changes},
        }
    )


@pytest.fixture
def registered(monkeypatch):
    """The registry, empty, and as it was after the test."""
    kept = dict(REGISTERED)
    REGISTERED.clear()
    yield REGISTERED
    REGISTERED.clear()
    REGISTERED.update(kept)


def test_a_registered_source_takes_its_options_and_slices(registered):
    @register_source("halves")
    def halves(*, data_dir, channels=3):
        return source_of(count=int(data_dir) * channels)

    source = get_source("halves", data_dir="20", channels=2, time_steps=4)
    images, labels = load_split(source, "train[:25%]")
    assert (images.shape, labels.tolist()) == ((10, 8, 8, 1), [0, 1] * 5)
    with pytest.raises(ValueError, match=r"data\.sensor_size is no option .* 'halves'"):
        get_source("halves", data_dir="20", sensor_size=(8, 8))
    register_source("halves")(source_of)  # As a cell of a notebook that runs again.
    assert registered["halves"] is source_of


def test_a_source_of_the_package_keeps_its_name(registered):
    register_source("digits")(source_of)
    assert get_source("digits").class_names == tuple("0123456789")


def test_mistakes_of_a_source_are_told_as_such(registered):
    register_source("broken")(lambda: 1 // 0)
    register_source("list")(lambda: ["no source"])
    register_source("late")(lambda: source_of(load=lambda split, bounds: 1 // 0))
    late = OnDemand(lambda number: number // 0, range(2), (8, 8, 1), "uint8")
    register_source("reads")(
        lambda: source_of(load=lambda split, bounds: (late, [0, 1]))
    )
    register_source("lists")(
        lambda: source_of(load=lambda split, bounds: ([[0]], [0])),
    )
    register_source("whole")(
        lambda: source_of(load=lambda split, bounds: (np.zeros((2, 8, 8, 1)), [0, 1])),
    )
    with pytest.raises(ValueError, match="'broken': ZeroDivisionError: "):
        get_source("broken")
    with pytest.raises(ValueError, match="'list' must make a Source"):
        get_source("list")
    with pytest.raises(ValueError, match="'late': ZeroDivisionError: "):
        load_split(get_source("late"), "train")
    with pytest.raises(ValueError, match="'reads': ZeroDivisionError: "):
        load_split(get_source("reads"), "train")
    with pytest.raises(ValueError, match=r"must be an array.*Received: list"):
        load_split(get_source("lists"), "train")
    # Else all slices would hold all examples, and the best epoch be chosen on them.
    with pytest.raises(ValueError, match=r"must call bounds.*'train\[:50%\]' without"):
        load_split(get_source("whole"), "train[:50%]")
    assert len(load_split(get_source("whole"), "train")[0]) == 2
    # An empty slice is a mistake in the recipe, not in the source.
    register_source("fine")(source_of)
    with pytest.raises(ValueError, match=r"^A split must not be empty"):
        load_split(get_source("fine"), "train[:0]")
    with pytest.raises(ValueError, match=r"--import MODULE.*did you mean 'fine'"):
        get_source("fien")
    with pytest.raises(ValueError, match=r"must be a text\. Received: <function"):
        register_source(source_of)


@pytest.mark.parametrize(
    ("labels", "received"),
    [
        (np.eye(2)[[0, 1, 0]], r"float64 \(3, 2\)"),
        (np.array([0.0, 1.0, 0.0]), r"float64 \(3,\)"),
        (np.array([[0], [1], [0]]), r"int64 \(3, 1\)"),
        ([False, True, False], r"bool \(3,\)"),
        (np.zeros(0, int), r"int64 \(0,\)"),
    ],
)
def test_labels_that_a_test_could_not_score_are_refused(labels, received):
    """A training would take them, and fail behind its last epoch."""
    images = np.zeros((len(labels), 8, 8, 1), "uint8")
    source = source_of(load=lambda split, bounds: (images, labels))
    with pytest.raises(ValueError, match=rf"whole numbers, .*: {received}") as error:
        load_split(source, "train")
    assert is_mistake(error.value)


def test_labels_of_any_whole_type_become_int64():
    images, labels = np.zeros((2, 8, 8, 1), "uint8"), np.array([0, 1], "uint8")
    source = source_of(load=lambda split, bounds: (images, labels))
    assert load_split(source, "train")[1].dtype == "int64"


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": (0, 1)},
        {"class_names": ("even", "even")},
        {"class_names": ()},
        {"orientation": "upright"},
    ],
)
def test_what_the_files_of_a_training_could_not_hold_is_refused(registered, changes):
    register_source("mine")(lambda: source_of(**changes))
    with pytest.raises(ValueError, match=r"different texts|orientation must") as error:
        get_source("mine")
    assert is_mistake(error.value)


@pytest.mark.parametrize("on_demand", [False, True])
def test_events_of_a_source_that_has_frames_alone_can_not_be_changed(
    registered, on_demand
):
    frames = np.zeros((8, 3, 4, 4, 2), "uint16")
    if on_demand:
        frames = OnDemand(frames.__getitem__, range(8), frames.shape[1:], "uint16")
    register_source("mine")(
        lambda: source_of(load=lambda split, bounds: (frames, np.arange(8) % 2))
    )
    noise = EventAugmentation(flip="none", drop_events=0.5)
    data = Data(name="mine", train="train", validation="v", test="t", batch_size=8)
    data = replace(data, mean=(0, 0), std=(1, 1), event_augmentation=noise)
    with pytest.raises(ValueError, match=r"OnDemand with finish\. Received: \w+ from"):
        _ = Examples(data, (3, 4, 4, 2)).training_functions


@pytest.mark.parametrize("wrong", ["shape", "read", "finish"])
def test_an_example_that_fails_in_training_is_a_mistake(registered, monkeypatch, wrong):
    """Its function, its number and its exception are told in one line."""
    monkeypatch.setattr(data_source, "IN_MEMORY_BYTES", 0)

    def fails(*arguments):
        number = arguments[-1]
        if number == 7 and wrong == "shape":
            return np.zeros((8, 9, 1))
        if number == 7:
            return {}["photo"]
        return np.zeros((8, 8, 1))

    read, finish = (fails, None) if wrong != "finish" else (lambda number: 0, fails)
    inputs = OnDemand(read, range(40), (8, 8, 1), "uint8", finish)
    labels = np.arange(40) % 2
    register_source("mine")(
        lambda: source_of(
            load=lambda split, bounds: (
                inputs[slice(*bounds(40))],
                labels[slice(*bounds(40))],
            )
        )
    )
    data = Data(name="mine", train="train", validation="v", test="t", batch_size=8)
    examples = Examples(data, (8, 8, 1))
    with pytest.raises(ValueError) as caught, examples.plain_errors():
        for _ in examples.training(first_epoch=0, epochs=1):
            pass
    assert is_mistake(caught.value)
    if wrong == "shape":
        expected = "shape (8, 8, 1). Received: (8, 9, 1) of example 7"
    else:
        expected = "Received: 'mine': KeyError: 'photo' in fails of example 7"
    assert str(caught.value).endswith(expected)


@pytest.mark.parametrize(
    ("name", "is_known"),
    [
        *((name, True) for name in NAMES),
        ("tfds/mnist", True),
        ("birds:photos", True),
        ("halves", True),
        ("digit", False),
        ("halfs", False),
        ("birds:", False),
    ],
)
def test_names_of_sources_are_known_without_tensorflow(registered, name, is_known):
    register_source("halves")(source_of)
    assert tuple(SOURCES) == NAMES
    if is_known:
        check_name(name)
    else:
        with pytest.raises(ValueError, match=r"data\.name must be one of"):
            check_name(name)


def test_a_recipe_file_may_define_its_source(tmp_path, registered):
    path = tmp_path / "mine.py"
    before = MODULE.replace("def squares", '@register_source("squares")\ndef squares')
    before = before.replace("import Source\n", "import Source, register_source\n")
    path.write_text(RECIPE.format(before=before, name="squares"))
    for _ in range(2):  # As a training that is resumed in the same process.
        recipe = load_recipe(path)
    examples = Examples(recipe.data, (8, 8, 1))
    assert (examples.steps, len(examples.held_out("train[75%:]")[1])) == (3, 10)


def test_a_workdir_runs_no_module_that_the_user_has_not_named(
    tmp_path, monkeypatch, capsys
):
    """Commands, from a recipe to the evaluation of a workdir that is sent elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "named_by_recipe.py").write_text(MODULE)
    (tmp_path / "trap.py").write_text(MODULE)
    (tmp_path / "recipe.py").write_text(
        RECIPE.format(before="", name="named_by_recipe:squares")
    )
    digits = str(ROOT / "weights" / "digits")
    assert main(["evaluate", digits, "--recipe", "recipe.py"]) == 0
    assert "(40 examples)" in capsys.readouterr().out
    assert (tmp_path / "named_by_recipe.ran").exists()

    workdir = tmp_path / "run"
    shutil.copytree(digits, workdir / BEST_FOLDER)
    write_recipe(workdir, load_recipe("recipe.py"))
    file = workdir / "recipe.json"
    file.write_text(file.read_text().replace("named_by_recipe:", "trap:"))
    assert read_recipe(workdir).data.name == "trap:squares"
    assert main(["evaluate", "run"]) == 2
    error = capsys.readouterr().err
    assert "--import trap" in error and len(error.splitlines()) == 1
    assert main(["evaluate", "run", "--import", "recipe"]) == 2
    assert not (tmp_path / "trap.ran").exists()
    assert main(["evaluate", "run", "--import", "trap"]) == 0
    assert (tmp_path / "trap.ran").exists()


@pytest.mark.parametrize(
    "name", ["os:abort", "json:loads", "keras_qkformer.files:move"]
)
def test_modules_that_are_loaded_or_installed_must_be_named_too(name):
    with pytest.raises(ValueError, match="--import"):
        get_source(name)


def test_a_module_that_is_named_must_have_the_function(tmp_path):
    (tmp_path / "sparse_module.py").write_text("squares = 4\n")
    import_user_module("sparse_module", tmp_path)
    for function in ("squares", "circles"):
        with pytest.raises(ValueError, match=f"must have a function {function}"):
            get_source(f"sparse_module:{function}")
    path = tmp_path / "recipe.py"
    path.write_text(RECIPE.format(before="", name="nowhere_module:squares"))
    with pytest.raises(ValueError, match="'nowhere_module': ModuleNotFoundError"):
        load_recipe(path)


def test_the_page_on_data_shows_sources_that_work(tmp_path, monkeypatch):
    page = ROOT / "docs" / "data.md"
    if not page.is_file():
        pytest.skip("not in a checkout")
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    files = [b for b in blocks if b.startswith('"""')]
    names = []
    for text in files:
        name = re.match(r'"""(\w+)\.py', text)[1]
        (tmp_path / f"{name}.py").write_text(text)
        import_user_module(name, tmp_path)
        names.append(name)
    assert names == ["birds", "taps"]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 16, 16, 3), "uint8")
    np.savez(
        tmp_path / "birds.npz",
        **{f"{split}_images": images for split in ("train", "test")},
        **{f"{split}_labels": np.arange(20) % 2 for split in ("train", "test")},
    )
    source = get_source("birds:photos", data_dir=str(tmp_path / "birds.npz"))
    inputs, labels = load_split(source, "train[90%:]")
    np.testing.assert_array_equal(inputs, images[18:])
    assert labels.tolist() == [0, 1]
    for split in ("train", "test"):
        (tmp_path / "taps" / split).mkdir(parents=True)
        for i in range(4):
            t = np.sort(rng.integers(0, 9000, 50))
            rows = np.stack([t, *rng.integers(0, 16, (2, 50)), t % 2], 1)
            np.save(tmp_path / "taps" / split / f"{'ab'[i % 2]}_{i}.npy", rows)
    options = {"data_dir": str(tmp_path / "taps"), "time_steps": 3}
    source = get_source("taps:taps", **options)
    parts = [load_split(source, part) for part in ("test[:50%]", "test[50%:]")]
    assert [frames.shape for frames, _ in parts] == [(2, 3, 16, 16, 2)] * 2
    assert [frames.sum() for frames, _ in parts] == [100, 100]
    assert sorted(np.concatenate([labels for _, labels in parts])) == [0, 0, 1, 1]
