"""Scores by hand."""

import numpy as np
import pytest

from keras_qkformer.training.scores import score

pytestmark = pytest.mark.backend_independent


def test_accuracies_loss_and_confusion_by_hand():
    # Probabilities 0.7, 0.2, 0.1 in another order each time.
    logits = np.log([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    scores = score(np.array([0, 1, 2]), logits, ["cat", "dog", "fox"])
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["loss"] == pytest.approx(-np.log([0.7, 0.2, 0.7]).mean())
    assert scores["calibration_error"] == pytest.approx(0.7 - 2 / 3)
    assert scores["confusion"] == {
        "cat": {"cat": 1},
        "dog": {"cat": 1},
        "fox": {"fox": 1},
    }
    assert scores["per_class"]["dog"] == {"accuracy": 0.0, "examples": 1}
    assert (scores["top5_accuracy"], scores["examples"]) == (1.0, 3)


def test_right_class_among_the_five_largest_logits_counts():
    logits = np.tile(np.arange(7.0), (7, 1))  # Class 6 first, classes 0 and 1 last.
    assert score(np.arange(7), logits, "abcdefg")["top5_accuracy"] == 5 / 7


def test_calibration_error_is_of_bins():
    # Two bins: sure 0.9 and right half of the time; sure 0.6 and always right.
    logits = np.log([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 4)
    labels = np.array([0, 0, 1, 1, 1, 1, 1, 1])
    error = score(labels, logits, "ab")["calibration_error"]
    assert error == pytest.approx((0.4 + 0.4) / 2)


def test_certain_answers_are_in_the_last_bin():
    logits = np.array([[0.0, 1e4], [1e4, 0.0]])
    assert score(np.array([1, 0]), logits, "ab")["calibration_error"] == 0.0


def test_class_without_examples_has_no_accuracy():
    scores = score(np.array([0]), np.array([[1.0, 0.0]]), ["cat", "dog"])
    assert scores["per_class"]["dog"] == {"accuracy": None, "examples": 0}
    assert scores["confusion"]["dog"] == {}
