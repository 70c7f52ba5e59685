"""The parser class, argument types and options that all commands share."""

import argparse
import re

PROGRAM = "keras-qkformer"
BACKENDS = ("tensorflow", "jax", "torch")


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that reports an error in one line and exits with status 2."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


class Commands:
    """Adds commands to a parser, each with the common options.

    Args:
        parser: a `Parser`.
        prefix: str. Names of the enclosing groups, with a trailing space: `"data "`.
    """

    def __init__(self, parser, prefix=""):
        self.prefix = prefix
        self._added = parser.add_subparsers(required=True, metavar="command")

    def add(self, name, run, summary, example):
        """Declare a command.

        Args:
            name: str.
            run: function `run(arguments)` that takes the parsed arguments and returns
                an exit status, or `None` for 0.
            summary: str. One line that starts with a lowercase letter.
            example: str. Arguments of the example that ends the help text.

        Returns:
            `Parser` to which the command adds its own arguments.
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
            help="Keras backend (default: KERAS_BACKEND, then Keras's configuration)",
        )
        parser.add_argument(
            "--debug", action="store_true", help="show the traceback of an error"
        )
        parser.set_defaults(run=run)
        return parser

    def add_group(self, name, summary):
        """Declare a group of commands, such as `data`.

        Args:
            name: str.
            summary: str. One line that starts with a lowercase letter.

        Returns:
            `Commands` of the group.
        """
        group = self._added.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
        )
        return Commands(group, f"{self.prefix}{name} ")


def add_recipe(parser):
    """Add the argument `recipe`, and `--set` to replace its values.

    Args:
        parser: `argparse.ArgumentParser`.
    """
    parser.add_argument("recipe", help="recipe file, optionally with :VARIANT")
    add_overrides(parser)


def add_overrides(parser):
    """Add the option `--set`, a list of str.

    Args:
        parser: `argparse.ArgumentParser`.
    """
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="replace a value of the recipe; may be repeated",
    )


def positive_int(text):
    """Parse a whole number above 0.

    Args:
        text: str.

    Raises:
        ArgumentTypeError: if it is something else.
    """
    if not re.fullmatch(r"0*[1-9]\d*", text):
        raise argparse.ArgumentTypeError(
            f"must be a whole number above 0. Received: {text!r}"
        )
    return int(text)


def natural_number(text):
    """Parse a whole number from 0 to 999,999,999.

    Args:
        text: str.

    Raises:
        ArgumentTypeError: if it is something else.
    """
    if not re.fullmatch(r"\d{1,9}", text):
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 0. Received: {text!r}"
        )
    return int(text)


def growing_sizes(text):
    """Parse whole numbers separated by commas, such as `1,2,4`, as a tuple.

    Whether they grow is checked later, by the export.

    Args:
        text: str.

    Raises:
        ArgumentTypeError: if it is something else.
    """
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(
            f"must be whole numbers with commas, such as 1,2,4. Received: {text!r}"
        )
    return tuple(map(int, text.split(",")))


def sensor_size(text):
    """Parse `HEIGHTxWIDTH`, such as `128x128`, as `(height, width)` in pixels.

    Args:
        text: str.

    Raises:
        ArgumentTypeError: if it is something else.
    """
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", text):
        raise argparse.ArgumentTypeError(
            f"must be HEIGHTxWIDTH in pixels, such as 128x128. Received: {text!r}"
        )
    height, width = text.split("x")
    return int(height), int(width)


def device_count(text):
    """Parse `auto`, which stays a str, or a whole number from 1 to 999,999.

    Args:
        text: str.

    Raises:
        ArgumentTypeError: if it is something else.
    """
    if text != "auto" and not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(
            f"must be auto or a whole number above 0. Received: {text!r}"
        )
    return text if text == "auto" else int(text)


def local_folder(model):
    """Return the folder of a model, after downloading it if `model` is an address.

    Args:
        model: str. A folder, or the address of a preset folder.

    Returns:
        `model` itself, or the path of the downloaded copy in the cache.
    """
    from keras_qkformer.models.preset_files import fetch, is_address

    return fetch(model) if is_address(model) else model
