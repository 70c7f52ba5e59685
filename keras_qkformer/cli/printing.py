"""Output that several commands share: scores, damaged images, warnings."""

import contextlib
import sys
import warnings

from keras_qkformer.cli.arguments import PROGRAM
from keras_qkformer.printable import printable

_FEW = 5  # Damaged images to list before the count.


_LONGEST = 4096  # Characters of a part of a line, such as a path.


def line(*parts, sep="\t"):
    r"""Return parts as one line in which only the separator is a control character.

    Names of files and classes, and what a server says, come from outside: they could
    act on the terminal, or look like further lines of results.

    Args:
        *parts: str, or objects that `str` turns into text.
        sep: str between the parts.

    Example:
    >>> line("a.png\nb.png", "cat:0.9000", sep=" ")
    'a.png\\nb.png cat:0.9000'
    """
    return sep.join(printable(str(part), _LONGEST) for part in parts)


def print_note(*parts):
    """Print a line on how the work goes to standard error: it is no result.

    Args:
        *parts: see `line`.
    """
    print(line(*parts, sep=" "), file=sys.stderr, flush=True)


def print_scores(scores, split):
    """Print the scores of a split in one line.

    Args:
        scores: dict with `accuracy`, `loss`, `examples`, `top5_accuracy`,
            `calibration_error` and `per_class`.
        split: str. Name of the split.
    """
    # With five classes or fewer, the right one is always among the first five.
    is_told = len(scores["per_class"]) > 5
    top5 = f"top-5 {scores['top5_accuracy']:.4f}, " if is_told else ""
    print(
        f"{split}: accuracy {scores['accuracy']:.4f}, loss {scores['loss']:.4f} "
        f"({scores['examples']} examples), {top5}"
        f"calibration error {scores['calibration_error']:.4f}"
    )


@contextlib.contextmanager
def sensor_told_once():
    """Context in which standard error gets each `SensorWarning` once, as it comes."""
    import tqdm

    from keras_qkformer.trained import SensorWarning

    told = set()

    def show(message, category, *place):
        if category is not SensorWarning:
            show_other(message, category, *place)
        elif str(message) not in told:
            told.add(str(message))
            tqdm.tqdm.write(str(message), sys.stderr)  # Above the bar, if there is one.

    with warnings.catch_warnings():
        warnings.simplefilter("always", SensorWarning)
        show_other, warnings.showwarning = warnings.showwarning, show
        yield


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
        print(line("left out", name, reason, sep=": "), file=sys.stderr)
    print(
        f"{PROGRAM}: {len(damaged)} damaged image{'s'[: len(damaged) > 1]} left out; "
        "data.strict=true makes that an error",
        file=sys.stderr,
    )
