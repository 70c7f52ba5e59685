"""Figures: they are drawn, for every kind of model and number of classes."""

import numpy as np
import pytest
from model_harness import TINY, random_inputs, settle

from keras_qkformer.models import QKFormerBackbone, QKFormerClassifier

pytest.importorskip("matplotlib", reason="the extra that draws")
from keras_qkformer.analysis import plots


def pixels(path):
    from PIL import Image

    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("L"))


def assert_shows_something(path):
    image = pixels(path)
    assert min(image.shape) > 200
    assert 0.001 < np.mean(image < 128) < 0.9


def test_curves_are_drawn(tmp_path):
    history = {
        "loss": [2.0, 1.0, 0.5],
        "accuracy": [0.2, 0.6, 0.9],
        "val_loss": [2.1, 1.2, 1.1],
        "val_accuracy": [0.2, 0.7, 0.6],
    }
    path = plots.plot_training(history, tmp_path / "new" / "curves.png")
    assert_shows_something(path)


@pytest.mark.parametrize(
    "history",
    [{"loss": [1.0]}, {"loss": [1.0, 2.0], "accuracy": [0.5]}],
)
def test_incomplete_history_is_an_error(history, tmp_path):
    with pytest.raises(ValueError, match="Received"):
        plots.plot_training(history, tmp_path / "curves.png")


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_confusion_matrix_is_drawn(tmp_path, classes):
    labels = np.arange(5 * classes) % classes
    names = [f"class {i}" for i in range(classes)]
    path = plots.plot_confusion_matrix(
        labels, np.roll(labels, 1), names, tmp_path / "matrix.png"
    )
    assert_shows_something(path)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"static": False},
        {"attention": ("channel", "self")},
        {"residual": "pre_activation"},
    ],
    ids=str,
)
def test_spikes_are_drawn(tmp_path, change):
    model = QKFormerClassifier(QKFormerBackbone(**{**TINY, **change}), 5)
    x = random_inputs(settle(model))
    path = plots.plot_spikes(
        model, np.abs(x[0]), tmp_path / "s.png", class_names=list("abcde"), label=2
    )
    assert_shows_something(path)
