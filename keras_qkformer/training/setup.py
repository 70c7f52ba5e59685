"""The model of a recipe and the data that it trains on."""

import dataclasses
import functools
from typing import Any

import numpy as np

from keras_qkformer.data import pipeline, sources
from keras_qkformer.data.images import affine
from keras_qkformer.data.images import augment as images_augment
from keras_qkformer.data.images.encoded_images import EncodedImages
from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.data.recordings import augment as recordings_augment
from keras_qkformer.data.source import Source
from keras_qkformer.models import QKFormerClassifier
from keras_qkformer.training.distribution import data_devices
from keras_qkformer.training.hosts import ALONE
from keras_qkformer.training.recipe import Recipe


def _preprocessing(recipe, model, source):
    """The `Preprocessing` of a recipe outside of training."""
    data, channels = recipe.data, model.backbone.in_channels
    statistics = {
        "mean": list(data.mean or source.mean),
        "std": list(data.std or source.std),
    }
    for name, values in statistics.items():
        if len(values) != channels:
            raise ValueError(
                f"data.{name} must have {channels} values, one per channel of the "
                f"model. Received: {values}"
            )
    options = {}
    if model.backbone.static:
        options["crop"] = data.evaluation_crop
        if data.image_augmentation:
            options["interpolation"] = data.image_augmentation.interpolation
    return Preprocessing(
        image_size=model.backbone.image_size,
        max_value=source.max_value,
        **statistics,
        **options,
    )


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What a recipe trains on.

    Attributes:
        recipe: the `Recipe`.
        model: its model, with weights from its seed.
        source: the `Source` of its data.
        inputs: see `Source.load`.
        labels: see `Source.load`.
        preprocessing: the `Preprocessing` for evaluation.
        options: `transform`, `augment` and perhaps `window` of
            `pipelines.training_dataset`.
    """

    recipe: Recipe
    model: QKFormerClassifier
    source: Source
    inputs: Any
    labels: np.ndarray
    preprocessing: Preprocessing
    options: dict

    @property
    def class_names(self):
        """Names of the classes, in the order of their labels."""
        return self.source.class_names

    def dataset(self, *, first_epoch, epochs, steps=None, options=None, **way):
        """The `pipelines.training_dataset`, perhaps with other options."""
        return pipeline.training_dataset(
            self.inputs,
            self.labels,
            batch_size=self.recipe.data.batch_size,
            seed=self.recipe.seed,
            first_epoch=first_epoch,
            epochs=epochs,
            steps=steps,
            **(self.options if options is None else options),
            **way,
        )


def prepare_training_data(recipe):
    """The model of a recipe and the data to train it on.

    Raises:
        ValueError: if a value of the recipe does not fit.
    """
    data = recipe.data
    model = QKFormerClassifier.from_preset(recipe.preset, **recipe.model)
    source = sources.get_source(data.name, **source_options(recipe, model))
    classes = len(source.class_names)
    if model.num_classes != classes and "num_classes" not in recipe.model:
        model = QKFormerClassifier.from_preset(
            recipe.preset, **recipe.model, num_classes=classes
        )
    if model.num_classes != classes:
        raise ValueError(
            f"The model must have the {classes} classes of {data.name!r}. "
            f"Received: num_classes={model.num_classes}"
        )
    inputs, labels = load_checked(source, recipe, model, data.train)
    preprocessing = _preprocessing(recipe, model, source)
    options = _training_options(recipe, model, preprocessing)
    return TrainingData(recipe, model, source, inputs, labels, preprocessing, options)


def _training_options(recipe, model, preprocessing):
    """The `transform`, `augment` and `window` of `pipelines.training_dataset`."""
    augment = _augmentation(recipe, model, preprocessing)
    augmentation = recipe.data.image_augmentation
    if augmentation is None:
        return {"transform": preprocessing, "augment": augment}
    scale = augmentation.random_resized_crop
    if scale is None:
        return {"transform": preprocessing.pixels, "augment": augment}
    return {
        "transform": dataclasses.replace(preprocessing, crop=None).pixels,
        "augment": augment,
        "window": functools.partial(
            images_augment.random_window, scale=scale, ratio=augmentation.crop_ratio
        ),
    }


def source_options(recipe, model):
    """What the source must know of a recipe and its model."""
    data, backbone = recipe.data, model.backbone
    options = {
        "data_dir": data.data_dir,
        "sensor_size": data.sensor_size,
        "frames_by": data.frames_by,
        "window_us": data.window_us,
        "strict": data.strict or None,
        "channels": backbone.in_channels,
    }
    return {**options, "time_steps": None if backbone.static else backbone.time_steps}


def load_checked(source, recipe, model, split):
    """Inputs and labels of a split that the model can take."""
    inputs, labels = sources.load_split(source, split)
    wanted = model.input_shape[1:]
    if len(inputs.shape) != 1 + len(wanted) or inputs.shape[-1] != wanted[-1]:
        raise ValueError(
            f"The model takes inputs {wanted} of any size in pixels. "
            f"Received: {inputs.shape[1:]} from {recipe.data.name!r}"
        )
    return inputs, labels


def limited(source, recipe, model, split, share=ALONE.share):
    """Inputs and labels of a split to evaluate on; no image of it is damaged.

    Of a share, one of equal parts, one behind the other.
    """
    inputs, labels = load_checked(source, recipe, model, split)
    if recipe.max_steps is not None:
        count = recipe.max_steps * recipe.data.batch_size
        inputs, labels = inputs[:count], labels[:count]
    part, parts = share
    own = slice(part * len(labels) // parts, (part + 1) * len(labels) // parts)
    inputs, labels = inputs[own], labels[own]
    if isinstance(inputs, EncodedImages):
        inputs, labels = inputs.without_damaged(labels)
    return inputs, labels


def evaluation_batches(recipe, inputs, labels, preprocessing, share=ALONE.share):
    """The `evaluation_dataset` of a recipe."""
    return pipeline.evaluation_dataset(
        inputs,
        labels,
        transform=preprocessing,
        batch_size=recipe.data.batch_size,
        multiple_of=data_devices(),
        share=share,
    )


def _augmentation(recipe, model, preprocessing):
    """The `augment` of a recipe for `pipelines.training_dataset`, or `None`."""
    data, static = recipe.data, model.backbone.static
    amounts = {
        "max_shift": data.max_shift,
        "max_rotation": data.max_rotation,
        "max_zoom": data.max_zoom,
    }
    if any(amounts.values()) and not static:
        raise ValueError(
            "max_shift, max_rotation and max_zoom are for images, not for event "
            f"frames. Received: {amounts}"
        )
    if data.event_augmentation and static:
        raise ValueError(
            "data.event_augmentation is for event frames, not for images. "
            f"Received: {data.event_augmentation}"
        )
    if data.image_augmentation:
        if any(amounts.values()) or not static:
            raise ValueError(
                "data.image_augmentation is for images, and instead of max_shift, "
                f"max_rotation and max_zoom. Received: {amounts} and a model of "
                f"{'images' if static else 'event frames'}"
            )
        options = dataclasses.asdict(data.image_augmentation)
        del options["random_resized_crop"], options["crop_ratio"]
        return functools.partial(
            images_augment.augment,
            num_classes=model.num_classes,
            label_smoothing=recipe.label_smoothing,
            mean=preprocessing.mean,
            std=preprocessing.std,
            **options,
        )
    if any(amounts.values()):
        return functools.partial(affine.augment_images, **amounts)
    if data.event_augmentation is None:
        return None
    recordings_augment.check_flip(data.event_augmentation.flip, model.num_classes)
    return functools.partial(
        recordings_augment.augment,
        num_classes=model.num_classes,
        label_smoothing=recipe.label_smoothing,
        **dataclasses.asdict(data.event_augmentation),
    )
