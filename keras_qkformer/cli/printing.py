"""Output that several commands share: scores, damaged images."""

import sys

from keras_qkformer.cli.arguments import PROGRAM

_FEW = 5  # Damaged images to list before the count.


def print_scores(scores, split):
    """Print the scores of a split in one line.

    Args:
        scores: dict with `accuracy`, `loss`, `examples`, `top5_accuracy` and
            `calibration_error`.
        split: str. Name of the split.
    """
    print(
        f"{split}: accuracy {scores['accuracy']:.4f}, loss {scores['loss']:.4f} "
        f"({scores['examples']} examples), top-5 {scores['top5_accuracy']:.4f}, "
        f"calibration error {scores['calibration_error']:.4f}"
    )


def print_damaged(damaged):
    """Print the first images that could not be decoded, and how many there are.

    The output goes to standard error.

    Args:
        damaged: dict from the name of an image to the reason. If empty, nothing is
            printed.
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
