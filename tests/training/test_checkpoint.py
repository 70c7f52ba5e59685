"""A damaged checkpoint is not resumed from: the one before is, or there is an error."""

import json
import shutil

import keras
import numpy as np
import pytest
from fuzz.preset_folder import DAMAGE as DAMAGES
from fuzz.preset_folder import fuzz, make_checkpoint

from keras_qkformer.manifest import IntegrityWarning, trusting
from keras_qkformer.models import QKFormerClassifier
from keras_qkformer.training.checkpoint import Checkpoint

pytestmark = pytest.mark.backend_independent

EPOCHS = 3


def make_model():
    model = QKFormerClassifier.from_preset(
        "qkformer_tiny", embed_dim=16, num_heads=2, time_steps=1, dropout=0.1
    )
    model.compile(keras.optimizers.SGD())
    model.optimizer.build(model.trainable_variables)
    return model


def mark(model, epoch):
    """Make the weights those of an epoch."""
    model.weights[-1].assign(np.full(model.weights[-1].shape, epoch))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A workdir as a training leaves it that was killed after some epochs."""
    workdir, model = tmp_path_factory.mktemp("interrupted"), make_model()
    checkpoint = Checkpoint(workdir, {})
    checkpoint.set_model(model)
    checkpoint.on_train_begin()
    for epoch in range(EPOCHS):
        mark(model, epoch + 1)
        # The first epoch is the best, so that best/ is written only once.
        loss = float(epoch)
        checkpoint.on_epoch_end(epoch, {"val_accuracy": 0.5, "val_loss": loss})
    return workdir, model, checkpoint


@pytest.fixture
def workdir(interrupted, tmp_path):
    return shutil.copytree(interrupted[0], tmp_path / "run")


def resume(interrupted, workdir):
    """The checkpoint that a training resumes from, and the mark of its weights."""
    model = interrupted[1]
    mark(model, 0)
    checkpoint = Checkpoint(workdir, {})
    checkpoint.set_model(model)
    checkpoint.restore(model)
    return checkpoint, int(np.array(model.weights[-1])[0])


def files(workdir):
    return {path.name for path in (workdir / "checkpoints").iterdir()}


def change_state(workdir, change, name="state.json"):
    path = workdir / "checkpoints" / name
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))


LAST = "epoch-0003.weights.h5"


def flip(workdir, name=LAST):
    path = workdir / "checkpoints" / name
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def test_a_whole_checkpoint_is_resumed_from(interrupted, workdir):
    checkpoint, marked = resume(interrupted, workdir)
    assert (checkpoint.epoch, marked) == (3, 3)
    assert checkpoint.history["val_loss"] == [0.0, 1.0, 2.0]
    assert checkpoint.state == interrupted[2].state
    assert files(workdir) == {
        *("state.json", LAST),
        *("state-before.json", "epoch-0002.weights.h5"),
    }


def test_a_kill_while_the_model_card_is_written_leaves_the_best_epoch(
    interrupted, workdir
):
    half = workdir / "best" / "partial-k3x_9b2a"
    half.mkdir()
    (half / "README.md").write_text("# A mod")
    checkpoint, _ = resume(interrupted, workdir)
    assert not checkpoint.lacks_best() and not half.exists()


DAMAGE = {
    "weights": (flip, LAST),
    "no weights": (lambda w: (w / "checkpoints" / LAST).unlink(), LAST),
    "state": (lambda w: change_state(w, lambda s: s["random"][0].reverse()), "state"),
    "epoch": (lambda w: change_state(w, lambda s: s.update(epoch=2)), "state"),
    "type": (lambda w: change_state(w, lambda s: s.update(epoch="x")), "epoch: "),
    "negative": (lambda w: change_state(w, lambda s: s.update(epoch=-5)), "epoch: "),
    "list": (lambda w: (w / "checkpoints/state.json").write_text("[]"), "JSON object"),
    "half": (lambda w: (w / "checkpoints/state.json").write_text('{"ep'), "JSON file"),
    "no state": (lambda w: (w / "checkpoints/state.json").unlink(), "No such file"),
}


@pytest.mark.parametrize(("damage", "named"), DAMAGE.values(), ids=DAMAGE)
def test_of_a_damaged_one_the_one_before_is_taken_or_there_is_an_error(
    interrupted, workdir, damage, named
):
    damage(workdir)
    rule = f"{named}.* goes on from the checkpoint before, of epoch 2"
    with pytest.warns(IntegrityWarning, match=rule):
        checkpoint, marked = resume(interrupted, workdir)
    assert (checkpoint.epoch, marked) == (2, 2)
    assert checkpoint.history["val_loss"] == [0.0, 1.0]
    flip(workdir, "epoch-0002.weights.h5")
    with pytest.raises(ValueError, match=r"epoch-0002\.weights\.h5.* another SHA-256"):
        resume(interrupted, workdir)
    (workdir / "checkpoints" / "state-before.json").unlink()
    if (workdir / "checkpoints" / "state.json").exists():
        with pytest.raises(ValueError, match=named):
            resume(interrupted, workdir)


def test_training_goes_on_from_the_one_before_as_if_nothing_had_been(
    interrupted, workdir
):
    flip(workdir)
    with pytest.warns(IntegrityWarning):
        checkpoint, _ = resume(interrupted, workdir)
    mark(checkpoint.model, 7)
    checkpoint.on_epoch_end(2, {"val_accuracy": 0.5, "val_loss": 9.0})
    again, marked = resume(interrupted, workdir)
    assert (again.epoch, marked, again.history["val_loss"][2]) == (3, 7, 9.0)
    checkpoint.on_train_end()
    assert files(workdir) == {"state.json", LAST}
    assert resume(interrupted, workdir)[1] == 7


def test_what_is_damaged_is_resumed_from_on_trust(interrupted, workdir):
    change_state(workdir, lambda state: state["random"][0].reverse())
    with trusting(), pytest.warns(IntegrityWarning, match=r"state\.json.* on trust"):
        assert resume(interrupted, workdir)[1] == 3


def test_a_checkpoint_of_an_older_version_is_resumed_from_with_a_warning(
    interrupted, workdir
):
    change_state(workdir, lambda state: state.pop("sha256"))
    with pytest.warns(IntegrityWarning, match="an older version, without SHA-256"):
        assert resume(interrupted, workdir)[1] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"history": {"loss": [1.0]}}, r"each of the 3 epochs. Received: .*'loss': 1"),
        ({"random": [[1]]}, "with other random states"),
        pytest.param(
            *({"random": [[2**40, 1]]}, "that fit has written.*out of bounds"),
            marks=pytest.mark.skipif(
                keras.backend.backend() == "tensorflow", reason="has them in 64 bits"
            ),
        ),
    ],
)
def test_what_does_not_fit_an_older_checkpoint_is_an_error(
    interrupted, workdir, change, message
):
    (workdir / "checkpoints" / "state-before.json").unlink()
    change_state(workdir, lambda state: (state.pop("sha256"), state.update(change)))
    with (
        pytest.warns(IntegrityWarning, match="older version"),
        pytest.raises(ValueError, match=message),
    ):
        resume(interrupted, workdir)


def test_weights_that_are_not_finite_are_refused_even_on_trust(interrupted, workdir):
    import h5py

    def spoil(name, item):
        if isinstance(item, h5py.Dataset) and item.shape == (10,):
            item[...] = np.nan

    with h5py.File(workdir / "checkpoints" / LAST, "r+") as file:
        file.visititems(spoil)
    (workdir / "checkpoints" / "state-before.json").unlink()
    with (
        trusting(),
        pytest.warns(IntegrityWarning, match="on trust"),
        pytest.raises(ValueError, match=r"Weights must be finite\. Received: .*head"),
    ):
        resume(interrupted, workdir)


def test_weights_without_a_state_are_not_trained_over(interrupted, workdir):
    for path in (workdir / "checkpoints").glob("state*.json"):
        path.unlink()
    with pytest.raises(ValueError, match=r"A checkpoint must have its state\.json"):
        resume(interrupted, workdir)
    for path in (workdir / "checkpoints").glob("epoch-*"):
        path.unlink()
    # A training that was killed while it wrote its first checkpoint.
    (workdir / "checkpoints" / "epoch-0000.weights.h5").write_bytes(b"")
    assert resume(interrupted, workdir)[0].epoch == 0


def test_no_random_damage_is_resumed_from(interrupted, tmp_path):
    make_checkpoint(tmp_path, interrupted[1])

    def load(folder):
        Checkpoint(folder, {}).restore(interrupted[1])

    assert fuzz(tmp_path, load, 0.5, seed=1, kinds=DAMAGES[:4])[1] == []
