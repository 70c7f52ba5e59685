"""What the parsers of all commands share: their class, types, common options."""

import argparse
import re

PROGRAM = "keras-qkformer"
BACKENDS = ("tensorflow", "jax", "torch")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with exit status 2 as argparse has it."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


class Commands:
    """The commands of a parser, each with the options that all have.

    Args:
        parser: a `Parser`.
        prefix: str. What stands in front of a command's name, such as `"data "`.
    """

    def __init__(self, parser, prefix=""):
        self.prefix = prefix
        self._added = parser.add_subparsers(required=True, metavar="command")

    def add(self, name, run, summary, example):
        """Declare a command.

        Args:
            name: str.
            run: function of the parsed arguments. It returns an exit status, or `None`
                for 0.
            summary: str. What it does, in one line that begins with a small letter.
            example: str. Arguments of an example, shown with the help.

        Returns:
            The `Parser` of its arguments.
        """
        parser = self._added.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"example: {PROGRAM} {self.prefix}{name} {example}".rstrip(),
        )
        parser.add_argument(
            "--backend",
            choices=BACKENDS,
            help="instead of KERAS_BACKEND or Keras's own setting",
        )
        parser.add_argument(
            "--debug", action="store_true", help="show where an error comes from"
        )
        parser.set_defaults(run=run)
        return parser

    def add_group(self, name, summary):
        """Declare a group of commands, such as `data`; returns its `Commands`."""
        group = self._added.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
        )
        return Commands(group, f"{self.prefix}{name} ")


def add_recipe(parser):
    """The argument `recipe` and the option `--set` that replaces values of it."""
    parser.add_argument("recipe", help="a recipe file, perhaps with :VARIANT")
    add_overrides(parser)


def add_overrides(parser):
    """The option `--set`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="replace a value of the recipe; may be repeated",
    )


def positive_int(text):
    """A whole number above 0."""
    if not re.fullmatch(r"0*[1-9]\d*", text):
        raise argparse.ArgumentTypeError(
            f"must be a whole number above 0. Received: {text!r}"
        )
    return int(text)


def natural_number(text):
    """A whole number from 0."""
    if not re.fullmatch(r"\d{1,9}", text):
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 0. Received: {text!r}"
        )
    return int(text)


def growing_sizes(text):
    """Tuple of the numbers of a text such as 1,2,4."""
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(
            f"must be whole numbers with commas, such as 1,2,4. Received: {text!r}"
        )
    return tuple(map(int, text.split(",")))


def sensor_size(text):
    """(height, width) of a text such as 128x128."""
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", text):
        raise argparse.ArgumentTypeError(
            f"must be HEIGHTxWIDTH in pixels, such as 128x128. Received: {text!r}"
        )
    height, width = text.split("x")
    return int(height), int(width)


def device_count(text):
    """`auto`, or a number of devices."""
    if text != "auto" and not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(
            f"must be auto or a whole number above 0. Received: {text!r}"
        )
    return text if text == "auto" else int(text)


def local_folder(model):
    """The folder of a model; one at an address is first brought into the cache."""
    from keras_qkformer.models.preset_files import fetch, is_address

    return fetch(model) if is_address(model) else model
