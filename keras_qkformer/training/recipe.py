"""A recipe: every value of an experiment, checked when it is made."""

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")
_Positive = Annotated[int, Field(gt=0)]
_Probability = Annotated[float, Field(ge=0, le=1)]
_Range = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class EventAugmentation:
    """Augmentation of event frames, see `keras_qkformer.data.event_augment`.

    It smooths labels by the recipe's `label_smoothing`, once: before mixup.

    Attributes:
        flip: `"gestures"` for DVS128 Gesture, whose labels it mirrors; `"published"`,
            which keeps labels; `"none"`.
        operations: whether one of the six operations is drawn for every recording.
        mixup_alpha: the share of the first partner is Beta(alpha, alpha).
        mixup_probability: share of the batches that are mixed; 0 for no mixup.
        mixup_off_epoch: first epoch, from 0, without mixup, or `None`.
        max_gain: largest factor by which the counts of a recording are multiplied or
            divided, at random.
    """

    flip: Literal["gestures", "published", "none"]
    operations: bool = True
    mixup_alpha: Annotated[float, Field(gt=0)] = 0.5
    mixup_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    mixup_off_epoch: Annotated[int, Field(ge=0)] | None = None
    max_gain: Annotated[float, Field(ge=1)] = 1.0


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ImageAugmentation:
    """Augmentation of training images, see `keras_qkformer.data.image_augment`.

    In this order: crop, flip, policy, mixup or cutmix of the batch, normalization,
    erasing. It smooths labels by the recipe's `label_smoothing`, once: before they are
    mixed.

    Attributes:
        policy: `"randaugment"`: timm's, `rand-m{magnitude}-n{num_ops}-
            mstd{magnitude_std}-inc1`. `"keras_cv"`: RandAugment, MixUp and CutMix of
            keras_cv. `"none"`: no operation of colour or geometry.
        num_ops: operations per image that a policy draws.
        magnitude: of the operations, from 0 to 10.
        magnitude_std: of a normal distribution around it, drawn per operation.
        random_resized_crop: smallest and largest share of the area that is cut out, or
            `None` for what evaluation takes, see `Data.evaluation_crop`.
        crop_ratio: smallest and largest width/height of what is cut out.
        flip: whether every second image is mirrored left to right.
        interpolation: of a change of size, also in evaluation, and of `"randaugment"`.
        erase_probability: how often a rectangle of an image is erased.
        erase_mode: it becomes normal noise per pixel (`"pixel"`), a normal colour
            (`"rand"`) or the mean colour (`"const"`).
        mixup_alpha: the share of the first partner is Beta(alpha, alpha); 0 for none.
        cutmix_alpha: so is the share that is not cut out; 0 for none.
        mixup_probability: how often a batch is mixed.
        mixup_switch_probability: how often by cutmix, where there are both.
        mixup_off_epoch: first epoch, from 0, without either, or `None`.
    """

    policy: Literal["none", "randaugment", "keras_cv"] = "none"
    num_ops: _Positive = 2
    magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0
    magnitude_std: Annotated[float, Field(ge=0)] = 0.5
    random_resized_crop: _Range | None = None
    crop_ratio: _Range = (3 / 4, 4 / 3)
    flip: bool = True
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    erase_probability: _Probability = 0.0
    erase_mode: Literal["pixel", "const", "rand"] = "pixel"
    mixup_alpha: Annotated[float, Field(ge=0)] = 0.0
    cutmix_alpha: Annotated[float, Field(ge=0)] = 0.0
    mixup_probability: _Probability = 1.0
    mixup_switch_probability: _Probability = 0.5
    mixup_off_epoch: Annotated[int, Field(ge=0)] | None = None

    def __post_init__(self):
        for name in ("random_resized_crop", "crop_ratio"):
            values = getattr(self, name)
            if values and values[0] > values[1]:
                raise ValueError(f"{name} must be (smallest, largest)")
        if self.random_resized_crop and self.random_resized_crop[1] > 1:
            raise ValueError("random_resized_crop must not exceed 1, the whole area")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Data:
    """Where examples come from and how they are batched.

    Attributes:
        name: a source of `keras_qkformer.data.pipelines`.
        train: split to train on, such as `"train[:90%]"`.
        validation: split that chooses the best epoch; never the test split.
        test: split that is reported, used once, after training.
        batch_size: examples per step, all devices together.
        max_shift: largest random shift of a training image, as a share of its size.
        max_rotation: largest random rotation of a training image, in degrees.
        max_zoom: largest random change of size of a training image, as a share.
        data_dir: folder of the source's data, or `None` for its default.
        sensor_size: (height, width) of recordings in pixels, or `None` for the default.
        frames_by: frames of equally many events (`"number"`) or of equal length, or
            `None` for the default.
        window_us: length in microseconds into which recordings are cut, or `None`.
        event_augmentation: of the frames of training recordings, or `None`.
        image_augmentation: of training images, or `None`.
        evaluation_crop: share of the height and width of an image that evaluation
            takes, out of its middle: the shorter side becomes image size / share.
        mean: of the values in [0, 1], one per channel, or `None` for the source's.
        std: of the values in [0, 1], one per channel, or `None` for the source's.
        strict: whether an image that can't be decoded is an error; else it is left out
            and reported.
    """

    name: str
    train: str
    validation: str
    test: str
    batch_size: Annotated[int, Field(gt=0)]
    max_shift: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    max_zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    data_dir: str | None = None
    sensor_size: tuple[_Positive, _Positive] | None = None
    frames_by: Literal["number", "time"] | None = None
    window_us: _Positive | None = None
    event_augmentation: EventAugmentation | None = None
    image_augmentation: ImageAugmentation | None = None
    evaluation_crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    strict: bool = False


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Optimizer:
    """AdamW with a linear warm-up, a cosine, and perhaps a cool-down.

    Attributes:
        epochs: passes over the training split, without those of the cool-down.
        learning_rate: of the cosine at its highest point.
        min_learning_rate: at the end of the cosine.
        warmup_epochs: epochs in which the rate grows.
        warmup_learning_rate: where it grows from.
        cooldown_epochs: further passes, at `min_learning_rate`.
        schedule: `"step"`: the rate changes with every step, and the cosine begins
            after the warm-up. `"epoch"`: it changes with every epoch, and the cosine
            counts epochs from the first of the warm-up, as timm's does by default.
        weight_decay: not applied to one-dimensional tensors.
        layer_decay: the rate of a layer is that of the layer behind it times this; the
            head has the full rate. For fine-tuning.
        accumulation_steps: batches whose gradients make one optimizer step.
        clip_norm: longest gradient of all parameters together, or `None`.
        average_decay: of the moving average of all weights, BatchNorm's statistics
            included, which is then validated, tested and kept; `None` for no average.
    """

    epochs: Annotated[int, Field(gt=0)]
    learning_rate: Annotated[float, Field(gt=0)]
    min_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    warmup_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    cooldown_epochs: Annotated[int, Field(ge=0)] = 0
    schedule: Literal["step", "epoch"] = "step"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    accumulation_steps: Annotated[int, Field(gt=0)] = 1
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    average_decay: Annotated[float, Field(ge=0, lt=1)] | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Expected:
    """What the recipe should reach: someone's claim, or our run, never both in one.

    Attributes:
        reported: a published result and its source, or `None`.
        measured: our result, with hardware, date and command, or `None`.
    """

    reported: str | None = None
    measured: str | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Recipe:
    """One experiment.

    Attributes:
        preset: name of a preset or path of a preset folder.
        model: arguments of the model that differ from the preset.
        data: the examples.
        optimizer: how it learns.
        precision: a Keras dtype policy.
        label_smoothing: share of every label that is spread over all classes, once,
            with or without an augmentation that mixes labels.
        max_steps: training and evaluation steps per epoch at most, or `None`.
        seed: of weights, order of examples and augmentation.
        expected: results, reported and measured.
    """

    preset: str
    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    data: Data
    optimizer: Optimizer
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_steps: Annotated[int, Field(gt=0)] | None = None
    seed: int = 0
    expected: Expected = Expected()


_ADAPTER = TypeAdapter(Recipe)


def load_recipe(path, overrides=()):
    """Read a recipe file and apply overrides.

    Args:
        path: str or path of a Python file that defines `recipe`; with `:NAME` behind
            it, the variant of that name.
        overrides: strings such as `"optimizer.epochs=300"`. The value is JSON, or else
            a plain string; `model.` takes any argument of the model.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: if there is no such file or variant, no recipe in it, or a field is
            unknown or out of range.
    """
    file, name = _split_name(path)
    recipe, variants = _read(file)
    if name is None:
        return override(recipe, overrides)
    if name not in variants:
        raise ValueError(
            f"A variant of {file} must be one of {sorted(variants)}. Received: {name!r}"
        )
    return override(override(recipe, variants[name]), overrides)


def load_variants(path):
    """The variants of a recipe file: dict from a name to a list of overrides.

    Such as `{"t1": ["model.time_steps=1"]}`; empty if the file defines no `variants`.
    """
    return _read(Path(path))[1]


def recipe_name(path):
    """What a workdir of a recipe is called: `digits`, or `ablations_if`."""
    file, name = _split_name(path)
    return file.stem if name is None else f"{file.stem}_{name}"


def _split_name(path):
    text = str(path)
    file, colon, name = text.rpartition(":")
    if not colon or not file.endswith(".py"):
        return Path(text), None
    return Path(file), name


def _read(path):
    """The recipe of a file and its variants."""
    if not path.is_file():
        raise ValueError(f"A recipe must be a Python file. Received: {str(path)!r}")
    try:
        values = runpy.run_path(str(path))
    except ValidationError as error:
        raise ValueError(f"{path}: {_explain(error)}") from error
    except Exception as error:
        raise ValueError(
            f"A recipe file must run without errors. Received: {str(path)!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    recipe = values.get("recipe")
    if not isinstance(recipe, Recipe):
        raise ValueError(
            "A recipe file must define `recipe`, a Recipe. "
            f"Received: {str(path)!r} with recipe={recipe!r}"
        )
    return recipe, values.get("variants", {})


def override(recipe, overrides):
    """A recipe with some values replaced; see `load_recipe`.

    Example:
    >>> from keras_qkformer.training.recipe import Data, Optimizer, Recipe, override
    >>> data = Data(name="digits", train="a", validation="b", test="c", batch_size=8)
    >>> optimizer = Optimizer(epochs=3, learning_rate=1e-3)
    >>> recipe = Recipe(preset="qkformer_tiny", data=data, optimizer=optimizer)
    >>> override(recipe, ["optimizer.epochs=9", "model.tau=3.0"]).optimizer.epochs
    9
    >>> override(recipe, ["optimizer.epoch=9"])
    Traceback (most recent call last):
    ValueError: optimizer.epoch: Unexpected keyword argument. Received: 9
    """
    values = to_dict(recipe)
    for item in overrides:
        key, equals, text = item.partition("=")
        *parents, last = key.split(".")
        target = values
        for parent in parents:
            target = target.get(parent) if isinstance(target, dict) else None
        if not equals or not isinstance(target, dict):
            raise ValueError(
                "An override must be field=value with a field of the recipe, such as "
                f"optimizer.epochs=300. Received: {item!r}"
            )
        target[last] = parse_value(text)
    return from_dict(values)


def parse_value(text):
    """The value of an option: JSON, or else the text as it is.

    Example:
    >>> parse_value("[1, 2]"), parse_value("null"), parse_value("lif")
    ([1, 2], None, 'lif')
    """
    try:
        return json.loads(text)
    except ValueError:
        return text


def smoke(recipe):
    """The same recipe, shrunk to a check of two steps per epoch and two epochs."""
    return dataclasses.replace(
        recipe,
        optimizer=dataclasses.replace(
            recipe.optimizer, epochs=2, warmup_epochs=1, cooldown_epochs=0
        ),
        max_steps=2,
    )


def to_dict(recipe):
    """The recipe as a dictionary that JSON can hold."""
    return _ADAPTER.dump_python(recipe, mode="json")


def from_dict(values):
    """The recipe of `to_dict`.

    Raises:
        ValueError: if a field is missing, unknown or out of range.
    """
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        raise ValueError(_explain(error)) from error


def _explain(error):
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}. "
        f"Received: {problem['input']!r}"
        for problem in error.errors()
    )
