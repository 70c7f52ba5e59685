"""A recipe: every value of an experiment, checked when it is made."""

import contextlib
import dataclasses
import functools
import json
import os
import runpy
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from keras_qkformer.data.settings import (
    STRICT,
    Data,
    EventAugmentation,
    ImageAugmentation,
)
from keras_qkformer.json_files import explain
from keras_qkformer.mistakes import did_you_mean, is_raised, nearest
from keras_qkformer.printable import printable
from keras_qkformer.training.recipe_fields import recipe_fields
from keras_qkformer.user_modules import import_user_module, module_of

__all__ = [
    "Data",
    "EventAugmentation",
    "Expected",
    "ImageAugmentation",
    "Optimizer",
    "Recipe",
    "fields",
    "from_dict",
    "load_recipe",
    "load_variants",
    "override",
    "parse_value",
    "recipe_name",
    "smoke",
    "to_dict",
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Optimizer:
    """An optimizer with a linear warm-up, a cosine decay and an optional cool-down.

    Attributes:
        name: `"adamw"`, `"lamb"` or `"sgd"`, as Keras has them. All decay weights by
            the learning rate times `weight_decay`, apart from the step.
        momentum: of `"sgd"`.
        epochs: passes over the training split, without those of the cool-down.
        learning_rate: highest learning rate of the cosine.
        min_learning_rate: learning rate at the end of the cosine.
        warmup_epochs: length of the linear warm-up, in epochs.
        warmup_learning_rate: learning rate at the start of the warm-up.
        cooldown_epochs: further passes, at `min_learning_rate`.
        schedule: `"step"`: the rate changes with every optimizer step, and the cosine
            starts after the warm-up. `"epoch"`: the rate changes with every epoch, and
            the cosine counts the epochs of the warm-up too, as timm's does by default.
        weight_decay: not applied to one-dimensional variables.
        layer_decay: the learning rate of a layer is that of the next layer times this
            factor, and the head has the full rate. For fine-tuning with `"adamw"`; 1
            disables it.
        accumulation_steps: batches per optimizer step, whose gradients are averaged.
        clip_norm: largest norm of all gradients together, or `None`.
        average_decay: decay of the moving average of all weights, with the statistics
            of BatchNorm. The averages are validated, tested and kept. `None` disables
            them.
    """

    name: Literal["adamw", "lamb", "sgd"] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    epochs: Annotated[int, Field(gt=0, le=1_000_000)]
    learning_rate: Annotated[float, Field(gt=0)]
    min_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    warmup_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    cooldown_epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    schedule: Literal["step", "epoch"] = "step"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    accumulation_steps: Annotated[int, Field(gt=0, le=1_000_000)] = 1
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    average_decay: Annotated[float, Field(ge=0, lt=1)] | None = None

    def __post_init__(self):
        if self.momentum and self.name != "sgd":
            raise ValueError("momentum must be 0 unless the name is 'sgd'")
        if self.layer_decay < 1 and self.name != "adamw":
            raise ValueError("layer_decay must be 1 unless the name is 'adamw'")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Expected:
    """The result that a recipe should reach; a claim and a measurement never mix.

    Attributes:
        reported: a published result and its source, or `None`.
        measured: our own result, with hardware, date and command, or `None`.
    """

    reported: str | None = None
    measured: str | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    """One experiment.

    Attributes:
        preset: name of a preset, or path or address of a preset folder.
        model: arguments of the model that differ from the preset.
        data: the examples and their augmentation.
        optimizer: the optimizer and its learning rate.
        precision: a Keras dtype policy.
        label_smoothing: fraction of every label that is spread over all classes. It is
            applied once, also if an augmentation mixes labels.
        tet_regularizer: `None` to train on the logits, which are the mean over time; a
            number trains on those of each time step instead (temporal efficient
            training, TET), with this weight of the regularizer, see
            `losses.make_loss`. Validation and test are of the mean either way.
        max_steps: largest number of batches per epoch and evaluation, or `None`.
        seed: for the weights, the order of examples and augmentation.
        expected: the reported and the measured result.
    """

    preset: str
    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    data: Data
    optimizer: Optimizer
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    tet_regularizer: Annotated[float, Field(ge=0, lt=1)] | None = None
    max_steps: Annotated[int, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    expected: Expected = Expected()


_ADAPTER = TypeAdapter(Recipe)


def load_recipe(path: str | os.PathLike, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe file and apply overrides.

    Args:
        path: str or path of a Python file that defines `recipe`. `FILE.py:NAME` selects
            the variant of that name.
        overrides: sequence of str such as `"optimizer.epochs=300"`. A value that is not
            JSON is taken as a string. `model.` takes any argument of the model.

    Returns:
        A `Recipe`. If its source is `"module:function"`, that module is imported, from
        the current folder or as installed.

    Raises:
        ValueError: if there is no such file or variant, no recipe in it, a field is
            unknown or out of range, or the module of its source does not load.
    """
    file, name = _split_name(path)
    recipe, variants = _read(file)
    if name is not None:
        if name not in variants:
            if not variants:
                raise ValueError(f"{file} has no variants. Received: {name!r}")
            raise ValueError(
                f"A variant of {file} must be one of {sorted(variants)}. "
                f"Received: {name!r}{did_you_mean(name, variants)}"
            )
        recipe = override(recipe, variants[name])
    recipe = override(recipe, overrides)
    module = module_of(recipe.data.name)
    if module:  # Named by the user, unlike what a workdir holds.
        import_user_module(module, ".")
    return recipe


def load_variants(path):
    """Read the variants of a recipe file.

    Args:
        path: str or path of a recipe file.

    Returns:
        Dict from the name of a variant to its overrides, such as
        `{"t1": ["model.time_steps=1"]}`. It is empty if the file defines no `variants`.

    Raises:
        ValueError: if there is no such file, or it holds no recipe, or
            variants of another form.
    """
    return _read(Path(path))[1]


def recipe_name(path):
    """Name the output of a recipe after its file and variant.

    Args:
        path: str or path of a recipe file, see `load_recipe`.

    Returns:
        Str.

    Example:
    >>> recipe_name("recipes/digits.py"), recipe_name("recipes/ablations.py:if")
    ('digits', 'ablations_if')
    """
    file, name = _split_name(path)
    return file.stem if name is None else f"{file.stem}_{name}"


def _split_name(path):
    text = str(path)
    file, colon, name = text.rpartition(":")
    if not colon or not file.endswith(".py"):
        return Path(text), None
    return Path(file), name


def _read(path):
    """Run a recipe file and return its recipe and variants."""
    if not path.is_file():
        raise ValueError(f"A recipe must be a Python file. Received: {str(path)!r}")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Ours may be a table in a file.
            values = runpy.run_path(str(path))
    except ValidationError as error:
        raise ValueError(
            f"{_place(path, error)}: {explain(error, _explain_one)}"
        ) from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not is_raised(error):
            raise
        # One that calls sys.exit has failed too.
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise ValueError(
            f"A recipe file must run without errors. Received: {_place(path, error)}: "
            f"{type(error).__name__}: {reason}"
        ) from error
    recipe, variants = values.get("recipe"), values.get("variants", {})
    if not isinstance(recipe, Recipe):
        raise ValueError(
            "A recipe file must define `recipe`, a Recipe. "
            f"Received: {str(path)!r} with a recipe of type {type(recipe).__name__}"
        )
    if not isinstance(variants, dict) or not all(
        isinstance(name, str)
        and isinstance(changes, list | tuple)
        and all(isinstance(change, str) for change in changes)
        for name, changes in variants.items()
    ):
        raise ValueError(
            "The variants of a recipe file must be a dict from names to lists of "
            f"overrides such as 'seed=1'. Received: {str(path)!r} with others"
        )
    return recipe, variants


def _place(path, error):
    """The file, and the line of it where an exception came from."""
    steps = [(s.filename, s.lineno) for s in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        steps.append((error.filename, error.lineno))
    lines = [line for file, line in steps if file == str(path) and line]
    return f"{str(path)!r}" + (f", line {lines[-1]}" if lines else "")


def override(recipe, overrides):
    """Replace some values of a recipe.

    Args:
        recipe: a `Recipe`.
        overrides: sequence of str such as `"optimizer.epochs=300"`, see `load_recipe`.

    Returns:
        A new `Recipe`.

    Raises:
        ValueError: if an override has another form, or a field is unknown or out of
            range.

    Example:
    >>> from keras_qkformer.training.recipe import Data, Optimizer, Recipe, override
    >>> data = Data(name="digits", train="a", validation="b", test="c", batch_size=8)
    >>> optimizer = Optimizer(epochs=3, learning_rate=1e-3)
    >>> recipe = Recipe(preset="qkformer_tiny", data=data, optimizer=optimizer)
    >>> override(recipe, ["optimizer.epochs=9", "model.tau=3.0"]).optimizer.epochs
    9
    >>> override(recipe, ["optimizer.epochs=0"])
    Traceback (most recent call last):
    ValueError: optimizer.epochs: Input should be greater than 0. Received: 0
    """
    values = to_dict(recipe)
    for item in overrides:
        key, equals, text = item.partition("=")
        *parents, last = key.split(".")
        target = values
        for parent in parents:
            target = target.get(parent) if isinstance(target, dict) else None
        if not equals or not isinstance(target, dict):
            names = [field.name for field in fields()]
            hint = did_you_mean(key, names)
            if key in names:
                part = ".".join(parents)
                hint = f" ({part} is null here: set it first)" if equals else ""
            raise ValueError(
                "An override must be field=value with a field of the recipe, such as "
                f"optimizer.epochs=300. Received: {item!r}{hint}"
            )
        target[last] = parse_value(text)
    return from_dict(values)


def parse_value(text):
    """Parse the value of an option.

    Args:
        text: str.

    Returns:
        The value of the text as JSON, or the text itself if it is not JSON.

    Example:
    >>> parse_value("[1, 2]"), parse_value("null"), parse_value("lif")
    ([1, 2], None, 'lif')
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def smoke(recipe):
    """Shrink a recipe to two epochs of two batches, as a quick check.

    Args:
        recipe: a `Recipe`.

    Returns:
        A new `Recipe`.
    """
    return dataclasses.replace(
        recipe,
        optimizer=dataclasses.replace(
            recipe.optimizer, epochs=2, warmup_epochs=1, cooldown_epochs=0
        ),
        max_steps=2,
    )


def to_dict(recipe):
    """Convert a recipe to nested dicts that JSON can hold.

    Args:
        recipe: a `Recipe`.

    Returns:
        Dict, see `from_dict`.
    """
    return _ADAPTER.dump_python(recipe, mode="json")


def from_dict(values):
    """Make a recipe from the result of `to_dict`.

    Args:
        values: dict from the fields of `Recipe` to their values.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: if a field is missing, unknown or out of range.
    """
    try:
        # Strict about JSON: a list stands for a tuple, but true is not a number.
        return _ADAPTER.validate_json(json.dumps(values))
    except ValidationError as error:
        raise ValueError(explain(error, _explain_one)) from error


@functools.cache
def fields():
    """Return the fields of a recipe, a list of `RecipeField`."""
    return recipe_fields(Recipe)


def field_values(recipe):
    """Return the value of every field of a recipe, by the name that `--set` takes.

    Args:
        recipe: a `Recipe`.

    Returns:
        Dict from names such as `"optimizer.epochs"` to values that JSON can hold;
        fields of a part that is `None` are `None`.
    """
    values, found = to_dict(recipe), {}
    for field in fields():
        value = values
        for name in field.name.split("."):
            value = value and value[name]
        found[field.name] = value
    return found


def field_like(name):
    """Return the field of a recipe that a wrong name means, or `None`.

    Args:
        name: str. The right name in another part (`"epochs"`), initials (`"lr"`), or a
            name that is spelt nearly right.

    Returns:
        str such as `"optimizer.epochs"`.
    """
    names, last = [field.name for field in fields()], name.rpartition(".")[2]
    for field in names:
        words = field.rpartition(".")[2].split("_")
        initials = "".join(word[0] for word in words)
        if last == "_".join(words) or last == initials != words[0][0]:
            return field
    return nearest(name, names)


def _explain_one(problem):
    name = printable(".".join(map(str, problem["loc"]))) or "The recipe"
    hint = ""
    if problem["type"] == "unexpected_keyword_argument":
        field = field_like(name)
        hint = f" (did you mean {field!r}?)" if field else ""
    message = problem["msg"].removeprefix("Value error, ")
    if "Received: " in message:  # Of ours, which names what matters of all fields.
        return f"{name}: {message}"
    received = printable(repr(problem["input"]))
    return f"{name}: {message}. Received: {received}{hint}"
