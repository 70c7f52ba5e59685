"""The parser class, and arguments that several commands share."""

import argparse
import os
import re
from pathlib import Path

from keras_qkformer.cli.argument_types import (
    InputFolder,
    RecipeFile,
    Text,
    check,
    neighbours,
)
from keras_qkformer.mistakes import did_you_mean
from keras_qkformer.printable import printable

PROGRAM = "keras-qkformer"
BACKENDS = ("tensorflow", "jax", "torch")
OVERRIDE = Text("FIELD=VALUE", r"[^=\s]+=.*")
SERVICE = Text(
    "the address of a tf.data service, grpc://HOST:PORT", r"grpc://\S+:[0-9]{1,5}"
)
MODEL_URL = Text(
    "the address of a model, http://HOST:8501/v1/models/NAME or grpc://HOST:8500/NAME",
    r"(https?://[^/\s]+/v1/models|grpcs?://[^/\s]+)/\S+",
)
PRESET_FILES = ("config.json", "best")


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that reports an error in one line and exits with status 2.

    The line states the rule and what was received, and a name that is spelt nearly like
    a wrong one. Options can't be abbreviated, so a new option changes no old command.
    """

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)
        self._received = []

    def parse_known_args(self, args=None, namespace=None):
        self._received = args
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:  # Here, not in `parse_args`: a command's parser knows its options.
            first, hint = unknown[0], ""
            if first.startswith("-"):
                hint = self._option_like(first.partition("=")[0])
            elif any(action.nargs == "*" for action in self._actions):
                hint = " (files come before options)"
            self.error(f"There must be no other arguments. Received: {first!r}{hint}")
        return parsed, unknown

    def _option_like(self, name):
        """A hint at the option, or the field of a recipe, that was perhaps meant."""
        options = self._option_string_actions
        for option in options:
            if option.startswith((name, f"-{name}")) and name != "--":
                return f" (did you mean {option!r}?)"
        hint = did_you_mean(name, options)
        if not hint and "--set" in options:
            from keras_qkformer.training.recipe import field_like  # Imports pydantic.

            field = field_like(name.lstrip("-").replace("-", "_"))
            hint = f" (did you mean '--set {field}=VALUE'?)" if field else ""
        return hint

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            names = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action,
                f"must be one of {', '.join(names)}. "
                f"Received: {value!r}{did_you_mean(value, names)}",
            )

    def error(self, message):
        """Print one line and exit with status 2."""
        if "Received:" not in message:
            received = " ".join(self._received or ()) or "nothing"
            message = f"{message}. Received: {received}"
        self.exit(2, f"{self.prog}: error: {printable(message, 2000)}\n")


class Commands:
    """Adds commands to a parser, each with the common options.

    Args:
        parser: a `Parser`.
        prefix: str. Names of the enclosing groups, with a trailing space: `"data "`.
    """

    def __init__(self, parser, prefix=""):
        self.prefix = prefix
        self.parser = parser
        self._added = parser.add_subparsers(metavar="command")
        parser.set_defaults(run=lambda _: parser.print_help(), debug=False)

    def add(self, name, run, summary, example, loads=False):
        """Declare a command.

        Args:
            name: str.
            run: function `run(arguments)` that takes the parsed arguments and returns
                an exit status, or `None` for 0.
            summary: str. One line that starts with a lowercase letter.
            example: str. Arguments of the example that ends the help text.
            loads: bool. Whether the command loads weights, so that it has `--trust`.

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
        if loads:
            parser.add_argument(
                "--trust",
                action="store_true",
                help="load a model whose files differ from its manifest.json all the "
                "same, with a warning",
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
    parser.add_argument(
        "recipe", type=RecipeFile(), help="recipe file, optionally with :VARIANT"
    )
    add_overrides(parser)


def load_checked_recipe(arguments):
    """Read the recipe of `add_recipe`, check its model and source, without Keras.

    Args:
        arguments: `argparse.Namespace` with `recipe` and `set`. A module of `--import`
            may register the preset or the source, which are then checked later.

    Returns:
        A `Recipe`.
    """
    from keras_qkformer.presets.declared import check_settings
    from keras_qkformer.training.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.set)
    if not getattr(arguments, "import"):
        check_settings(recipe.preset, recipe.model)
    check_data(recipe.data, arguments)
    return recipe


def check_data(data, arguments):
    """Raise `ValueError` if data are known to be absent, without TensorFlow.

    Args:
        data: `Data` of a recipe.
        arguments: `argparse.Namespace`. A module of `--import` may register the source.
            Of `--split`, the name is checked, too.
    """
    from keras_qkformer.data.source import NAMES, check_name, check_splits

    if not getattr(arguments, "import"):
        check_name(data.name)
    check_splits(data, getattr(arguments, "split", None))
    place = data.data_dir
    is_path = place is not None and "://" not in place
    if data.name in NAMES and is_path and not Path(place).exists():
        raise ValueError(
            "data.data_dir must exist, with data as docs/data.md describes them: --set "
            f"data.data_dir=FOLDER. Received: {place!r}{neighbours(Path(place))}"
        )


def add_overrides(parser):
    """Add the option `--set`, a list of str.

    Args:
        parser: `argparse.ArgumentParser`.
    """
    parser.add_argument(
        "--set",
        type=OVERRIDE,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="replace a value of the recipe; may be repeated",
    )


def add_import(parser):
    """Add the option `--import`, a list of str.

    Args:
        parser: `argparse.ArgumentParser`.
    """
    parser.add_argument(
        "--import",
        type=Text("the dotted name of a module", r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"),
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module of yours, with a family or a source of data; may be "
        "repeated",
    )


def add_table(parser):
    """Add `--time-unit` and `--columns`, which tell how to read a recording in a table.

    Args:
        parser: `argparse.ArgumentParser`.
    """
    parser.add_argument(
        "--time-unit",
        choices=("s", "ms", "us", "ns"),
        help="unit of the times in a table: CSV, NumPy or HDF5 (default: as the file "
        "states, or else us)",
    )
    parser.add_argument(
        "--columns",
        type=Text(
            "the letters t, x, y and p once each, and - for other columns",
            r"(?!.*([txyp]).*\1)(?=.*t)(?=.*x)(?=.*y)(?=.*p)[txyp-]+",
        ),
        help="order of the columns of a CSV file that does not name them, such as "
        "xypt; - is any other column",
    )


def refuse_given(arguments, names, of, instead):
    """Raise `ValueError` if options are given that would be ignored.

    Args:
        arguments: `argparse.Namespace`.
        names: iterable of str. Options whose default is `None` or empty.
        of: str. What they belong to.
        instead: str. What is given instead of that.
    """
    given = [name for name in names if getattr(arguments, name) not in (None, [])]
    if given:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(
            f"{options} must come with {of}. Received: {options} with {instead}"
        )


def check_new(folder):
    """Raise `ValueError` if a folder to write exists.

    Args:
        folder: str or path.
    """
    if Path(folder).exists():
        raise ValueError(
            f"The folder to write must not exist yet. Received: {str(folder)!r}"
        )


def check_model(model, also=()):
    """Raise `ValueError` unless a text is an address or a folder with a model.

    Args:
        model: str. A workdir of `fit`, a preset folder or its address, or the name of
            weights.
        also: names of files that make a folder one with a model, too.
    """
    if re.match(r"(hf|kaggle|https?)://", model):
        from keras_qkformer.presets.hubs import check_address

        check_address(model)
        return
    if not os.path.exists(model):
        from keras_qkformer.presets.folders import kept_weights, like_weights

        if model in kept_weights():
            return
        if hint := neighbours(Path(model)) or like_weights(model):
            raise ValueError(
                "A trained model must be a folder that exists, or the name of weights. "
                f"Received: {model!r}{hint}"
            )
    check(InputFolder(), "A trained model", model)
    folder = Path(model)
    if not any((folder / name).exists() for name in (*PRESET_FILES, *also)):
        raise ValueError(
            "A trained model must be a workdir of `fit` with at least one finished "
            f"epoch, or a preset folder. Received: {model!r}{neighbours(folder)}"
        )


def files_of_model(model):
    """Return which files a model takes, without Keras, see `declared.files_of`.

    Args:
        model: str that `check_model` has passed.
    """
    from keras_qkformer.presets.addresses import is_address
    from keras_qkformer.presets.declared import files_of

    best = Path(model) / "best"
    return files_of(model if is_address(model) or not best.is_dir() else str(best))


def local_folder(model):
    """Return the folder of a model, after downloading it if `model` is an address.

    Args:
        model: str. A folder, the name of weights, or the address of a preset folder.

    Returns:
        `model` itself, or the path of the weights or of the copy in the cache.
    """
    from keras_qkformer.presets.addresses import fetch, is_address
    from keras_qkformer.presets.folders import named_folder

    return fetch(model) if is_address(model) else named_folder(model)
