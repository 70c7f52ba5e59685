"""What several commands print: scores, damaged images, classes."""

import sys

from keras_qkformer.cli.arguments import PROGRAM

_FEW = 5  # Lines of a list that can be long.


def print_scores(scores, split):
    """One line with the scores of a split."""
    print(
        f"{split}: accuracy {scores['accuracy']:.4f}, loss {scores['loss']:.4f} "
        f"({scores['examples']} examples), top-5 {scores['top5_accuracy']:.4f}, "
        f"calibration error {scores['calibration_error']:.4f}"
    )


def print_damaged(damaged):
    """Say which images could not be decoded, if any.

    Args:
        damaged: dict from where an image is to what is wrong with it.
    """
    if not damaged:
        return
    for name, reason in sorted(damaged.items())[:_FEW]:
        print(f"left out: {name}: {reason}", file=sys.stderr)
    print(
        f"{PROGRAM}: {len(damaged)} damaged image{'s'[: len(damaged) > 1]} left out; "
        "data.strict=true makes that an error",
        file=sys.stderr,
    )


def top_classes(count, names, probabilities):
    """The most probable classes, as texts `name:probability`."""
    chosen = probabilities.argsort()[::-1][:count]
    return [f"{names[i]}:{probabilities[i]:.4f}" for i in chosen]
