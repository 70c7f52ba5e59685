"""What would fail after hours fails before the first step."""

import contextlib
import dataclasses
import os
import re
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_images import make_folder

from keras_qkformer.data.examples import Examples
from keras_qkformer.data.source import OnDemand
from keras_qkformer.training import preflight
from keras_qkformer.training.lock import only_training
from keras_qkformer.training.preflight import check_needs
from keras_qkformer.training.recipe import Data, Optimizer, Recipe

pytestmark = pytest.mark.backend_independent

DATA = Data(
    name="folder", train="train", validation="train[:2]", test="test", batch_size=2
)


def recipe_of(folder, **changes):
    data = dataclasses.replace(DATA, data_dir=str(folder), **changes)
    optimizer = Optimizer(epochs=1, learning_rate=0.1)
    return Recipe(preset="qkformer_tiny", data=data, optimizer=optimizer)


def model_of(*sizes, optimizer=()):
    def variables(sizes):
        return [SimpleNamespace(shape=(size,), dtype="float32") for size in sizes]

    return SimpleNamespace(
        weights=variables(sizes),
        optimizer=SimpleNamespace(variables=variables(optimizer)),
    )


def check(recipe, workdir=None, model=None):
    examples = Examples(recipe.data, (16, 16, 3))
    check_needs(recipe, model or model_of(9), examples, workdir)


@pytest.mark.parametrize(
    ("test", "rule"),
    [
        ("tset", r"one of \['test', 'train'\].* Received: 'tset'"),
        ("train[99999:]", r"whole numbers from 0 to \d+.*'train\[99999:\]'"),
        ("train[:inf%]", r"from 0% to 100%.*'train\[:inf%\]'"),
        ("train[2:2]", r"must not be empty\. Received: 'train\[2:2\]'"),
    ],
)
def test_test_split_that_does_not_exist_or_is_empty_is_an_error(tmp_path, test, rule):
    root = make_folder(tmp_path)
    check(recipe_of(root))
    with pytest.raises(ValueError, match=rule):
        check(recipe_of(root, test=test))


def test_test_split_without_a_readable_image_is_an_error(tmp_path):
    root = make_folder(tmp_path)
    first, *others = (root / "test").rglob("*.jpg")
    for path in others:
        path.write_text("a text")
    check(recipe_of(root))
    first.write_text("a text")
    with pytest.raises(ValueError, match="None of 4 images can be decoded"):
        check(recipe_of(root))


def test_training_without_a_step_of_its_optimizer_is_an_error(tmp_path):
    recipe = recipe_of(make_folder(tmp_path))
    steps = Examples(recipe.data, (16, 16, 3)).steps
    longer = {"cooldown_epochs": 2, "accumulation_steps": 3 * steps}
    longer = dataclasses.replace(recipe.optimizer, **longer)
    check(dataclasses.replace(recipe, optimizer=longer))
    too_many = dataclasses.replace(longer, accumulation_steps=3 * steps + 1)
    rule = f"not exceed the batches.*: {3 * steps + 1} with {3 * steps} batches"
    with pytest.raises(ValueError, match=rule):
        check(dataclasses.replace(recipe, optimizer=too_many))
    # A quick check cuts the training.
    check(dataclasses.replace(recipe, optimizer=too_many, max_steps=2))


@pytest.mark.parametrize("split", ["train", "test"])
def test_recording_that_can_not_be_read_is_an_error(split):
    def read(number):
        raise ValueError("A recording must have a header. Received: a.aedat")

    whole, broken = (
        (OnDemand(function, np.arange(3), (2,), "uint8"), np.zeros(3))
        for function in (lambda number: np.zeros(2), read)
    )
    splits = {"train": whole, "test": whole, split: broken}
    recordings = SimpleNamespace(
        steps=1, train=splits["train"], load=lambda split, on_demand: splits[split]
    )
    with pytest.raises(ValueError, match=r"Received: a\.aedat"):
        check_needs(recipe_of("."), None, recordings)


def test_room_is_needed_for_three_checkpoints_and_two_copies(tmp_path, monkeypatch):
    recipe = recipe_of(make_folder(tmp_path / "images"))
    model, workdir = model_of(1000_000, optimizer=(2000_000, 1)), tmp_path / "run"
    workdir.mkdir()
    # 4 MB of weights, 8 MB and 4 bytes of optimizer.
    needed = 3 * (4_000_000 + 8_000_004) + 2 * 4_000_000 + preflight.LOGS_BYTES
    free = []
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: SimpleNamespace(free=free[-1])
    )
    free.append(needed)
    check(recipe, workdir, model)
    free.append(needed - 1)
    rule = re.escape("64 MB more. Received: 64 MB free")
    with pytest.raises(OSError, match=rule):
        check(recipe, workdir, model)
    check(recipe, None, model)  # Another host writes.
    # A training that goes on has some of it.
    (workdir / "best").mkdir()
    (workdir / "best" / "model.weights.h5").write_bytes(b"1")
    check(recipe, workdir, model)


@pytest.fixture
def ordinary_user():
    """A folder of root's and, within `with`, another user who may not write there."""
    if os.name == "nt" or os.geteuid():
        pytest.skip("only root can become another user")

    @contextlib.contextmanager
    def become():
        os.setresuid(65534, 65534, 0)
        try:
            yield
        finally:
            os.setresuid(0, 0, 0)

    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder, become
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["checkpoints", "best", "logs"])
def test_folder_that_can_not_be_written_is_an_error(ordinary_user, name):
    folder, become = ordinary_user
    (folder / "run" / name).mkdir(parents=True)
    os.chown(folder / "run", 65534, 65534)
    some = np.zeros(3), np.zeros(3)
    examples = SimpleNamespace(steps=1, train=some, load=lambda split, on_demand: some)
    check_needs(recipe_of("."), model_of(9), examples, folder / "run")
    rule = f"/{name} must be writable. Received: .*{name}"
    with become(), pytest.raises(OSError, match=rule):
        check_needs(recipe_of("."), model_of(9), examples, folder / "run")


@pytest.mark.parametrize("name", [".", "new"])
def test_workdir_that_can_not_be_written_is_an_error(ordinary_user, name):
    folder, become = ordinary_user
    with become(), pytest.raises(OSError, match="Permission denied"):
        with only_training(recipe_of("."), folder / name):
            pass
    assert not [*folder.iterdir()]
