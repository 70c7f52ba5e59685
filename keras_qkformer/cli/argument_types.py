"""What each argument may be, declared once: `type=` of `add_argument`.

A type is called with the text of the command line. It returns the value, or raises
`argparse.ArgumentTypeError` with the rule and what was received. Nothing here loads a
library, so a mistake costs milliseconds.
"""

import argparse
import dataclasses
import os
import re
from pathlib import Path

from keras_qkformer.mistakes import nearest

FIGURE_SUFFIXES = (
    *("eps", "gif", "jpeg", "jpg", "pdf", "pgf", "png", "ps", "raw", "rgba", "svg"),
    *("svgz", "tif", "tiff", "webp"),
)
"""Formats that matplotlib writes."""


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number.

    Attributes:
        least: int. Smallest value.
        most: int. Largest value.
    """

    least: int
    most: int

    def __call__(self, text):
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or not (
            self.least <= int(text) <= self.most
        ):
            _refuse(f"a whole number from {self.least:,} to {self.most:,}", text)
        return int(text)


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite number.

    Attributes:
        least: float. Smallest value.
        most: float. Largest value.
    """

    least: float
    most: float

    def __call__(self, text):
        decimal = r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"
        if not re.fullmatch(decimal, text) or not (
            self.least <= float(text) <= self.most
        ):
            _refuse(f"a number from {self.least:,} to {self.most:,}", text)
        return float(text)


@dataclasses.dataclass(frozen=True)
class Text:
    """Text of a form.

    Attributes:
        rule: str. What the argument must be, after "must be".
        pattern: str. Regular expression of the whole text.
    """

    rule: str = "a text that can be printed and is not empty"
    pattern: str = r".+"

    def __call__(self, text):
        if not text.strip() or not text.isprintable():
            _refuse(Text.rule, text)
        if not re.fullmatch(self.pattern, text, re.ASCII):
            _refuse(self.rule, text)
        return text


@dataclasses.dataclass(frozen=True)
class WholeNumbers:
    """Whole numbers that grow, separated by commas, as a tuple.

    Attributes:
        most: int. Largest number.
    """

    most: int

    def __call__(self, text):
        numbers = ()
        if re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9})*", text):
            numbers = tuple(map(int, text.split(",")))
        grows = numbers == tuple(sorted({*numbers}))
        if not numbers or not grows or numbers[0] < 1 or numbers[-1] > self.most:
            _refuse(
                f"whole numbers from 1 to {self.most:,} that grow, with commas, such "
                "as 1,2,4",
                text,
            )
        return numbers


@dataclasses.dataclass(frozen=True)
class SensorSize:
    """`HEIGHTxWIDTH` in pixels as `(height, width)`.

    Attributes:
        most: int. Largest height and width.
    """

    most: int

    def __call__(self, text):
        size = ()
        if re.fullmatch(r"[0-9]{1,9}x[0-9]{1,9}", text):
            size = tuple(map(int, text.split("x")))
        if not size or not all(1 <= side <= self.most for side in size):
            _refuse(
                f"HEIGHTxWIDTH in pixels up to {self.most:,}, such as 128x128", text
            )
        return size


@dataclasses.dataclass(frozen=True)
class AutoOrWhole:
    """`auto`, which stays a str, or a whole number from 1.

    Attributes:
        most: int. Largest number.
    """

    most: int

    def __call__(self, text):
        if text == "auto":
            return text
        if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= self.most:
            _refuse(f"auto or a whole number from 1 to {self.most:,}", text)
        return int(text)


@dataclasses.dataclass(frozen=True)
class InputFile:
    """Path of a file that can be read."""

    def __call__(self, text):
        path = Path(_path(text))
        if path.is_dir():
            _refuse("a file, not a folder", text)
        if not path.exists():
            _refuse("a file that exists", text, neighbours(path))
        if not path.is_file():
            _refuse("a regular file, not a pipe or a device", text)
        if not os.access(path, os.R_OK):
            _refuse("a file that can be read", text)
        return text


@dataclasses.dataclass(frozen=True)
class RecordingSource(InputFile):
    """Path of a file, `-` for standard input, or `tcp://HOST:PORT`."""

    def __call__(self, text):
        if is_live_source(text):
            if text != "-" and not re.fullmatch(
                r"tcp://(\[[^\]\s]+\]|[^:\s/\[\]]+):[0-9]{1,5}", text
            ):
                _refuse("a file, - for standard input, or tcp://HOST:PORT", text)
            return text
        return super().__call__(text)


@dataclasses.dataclass(frozen=True)
class RecipeFile(InputFile):
    """Path of a recipe file, optionally with `:VARIANT`."""

    def __call__(self, text):
        file, colon, _ = _path(text).rpartition(":")
        super().__call__(file if colon and file.endswith(".py") else text)
        return text


@dataclasses.dataclass(frozen=True)
class InputFolder:
    """Path of a folder."""

    def __call__(self, text):
        path = Path(_path(text))
        if not path.exists():
            _refuse("a folder that exists", text, neighbours(path))
        if not path.is_dir():
            _refuse("a folder, not a file", text)
        return text


@dataclasses.dataclass(frozen=True)
class OutputFile:
    """Path of a file to write; its folders are made if needed.

    Attributes:
        suffixes: tuple of str that the name may end in, or empty for any.
    """

    suffixes: tuple = ()

    def __call__(self, text):
        path = Path(_path(text))
        if path.is_dir():
            _refuse("a file to write, not a folder", text)
        suffix = path.suffix[1:]
        if self.suffixes and suffix and suffix.lower() not in self.suffixes:
            _refuse(
                f"named like one of its formats ({', '.join(self.suffixes)}); "
                f"{suffix!r} is not supported",
                text,
            )
        _check_parents(path, text)
        return text


@dataclasses.dataclass(frozen=True)
class OutputFolder:
    """Path of a folder to write, which is made if needed."""

    def __call__(self, text):
        path = Path(_path(text))
        if path.exists() and not path.is_dir():
            _refuse("a folder to write, not a file", text)
        _check_parents(path, text)
        return text


def is_live_source(text):
    """Return whether a `RecordingSource` is standard input or an address, no file.

    Args:
        text: str.
    """
    return text == "-" or "://" in text


def check(kind, name, text):
    """Convert a text whose type depends on other arguments, once these are parsed.

    Args:
        kind: a type of this module.
        name: str. What the text is, to begin the error.
        text: str.

    Returns:
        What the type returns.

    Raises:
        ValueError: if the text is something else.
    """
    try:
        return kind(text)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{name} {error}") from error


def neighbours(path):
    """Return a hint at a path that exists and is spelt nearly like one that does not.

    Args:
        path: `Path`.

    Returns:
        str that starts with a space, or is empty.
    """
    try:
        names = [name for name in os.listdir(path.parent) if name != path.name]
    except OSError:
        return ""
    near = nearest(path.name, names)
    if near is not None:
        return f" (did you mean {str(path.parent / near)!r}?)"
    such = sorted(name for name in names if path.suffix == Path(name).suffix != "")
    return f" (there: {', '.join(map(repr, such[:5]))})" if such else ""


def _path(text):
    if not text.strip() or "\0" in text:
        _refuse("a path, which is not empty", text)
    try:
        os.stat(text)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        _refuse(f"a path that the system takes ({reason})", text)
    return text


def _check_parents(path, text):
    for parent in path.absolute().parents:
        if parent.exists():
            if not parent.is_dir():
                _refuse("a path through folders, not through a file", text)
            if not os.access(parent, os.W_OK):
                _refuse(f"in a folder that can be written, unlike {parent}", text)
            return


def _refuse(rule, text, hint=""):
    shown = text if len(text) <= 100 else f"{text[:100]}... ({len(text)} characters)"
    raise argparse.ArgumentTypeError(f"must be {rule}. Received: {shown!r}{hint}")
