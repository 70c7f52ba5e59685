"""A classifier on any backbone, loaded from presets and saved to preset folders."""

import datetime
import math
import os
import warnings
from pathlib import Path
from typing import Any, Literal, Self, overload

import keras
import numpy as np
from keras import ops

from keras_qkformer.files import beside, write_json, writing
from keras_qkformer.layers.batch_norm import BatchNorm
from keras_qkformer.layers.lif import IF
from keras_qkformer.layers.preprocessor import Preprocessor
from keras_qkformer.manifest import trusting
from keras_qkformer.models.backbone import SpikingBackbone
from keras_qkformer.models.compiled_model import CompiledModel
from keras_qkformer.models.loading import (
    copy_weights,
    load_finite_weights,
    locate,
    preprocessing_of,
    resolve_preset,
    save_safetensors,
)
from keras_qkformer.models.preset import (
    FAMILIES,
    PRESETS,
    Family,
    family_of,
    write_config,
)
from keras_qkformer.models.spiking_model import SpikingModel
from keras_qkformer.presets.arguments import (
    check_arguments,
    model_parameters,
    parameters_of,
)
from keras_qkformer.presets.card import is_edited, write_card
from keras_qkformer.presets.folders import (
    CONFIG_FILE,
    METADATA_FILE,
    NEW_FOLDER,
    WEIGHTS_FILES,
    check_preset_and_read,
    replace_preset,
)
from keras_qkformer.presets.ranges import check_head
from keras_qkformer.weights_limits import check_extent


class _OwnPresets:
    """Attribute of a class: dict from names to `Preset`s that it can load."""

    def __get__(self, instance, cls):
        return {
            name: preset
            for name, preset in PRESETS.items()
            if cls._is_of(FAMILIES[preset.family])
        }


@keras.saving.register_keras_serializable(package="keras_qkformer")
class SpikingClassifier(CompiledModel):
    """A backbone, mean over tokens and time, and a linear head.

    The neuron of `backbone.head_neuron()`, if any, runs between the two means.

    Args:
        backbone: `SpikingBackbone`.
        num_classes: int > 0, or `None` for no head, to output the pooled features.
        dropout: float in [0, 1). Dropout rate before the head.
        preprocessing: dict of the arguments of `preprocessor` except `image_size`, or
            `None` if it is not known how inputs were made.
        **kwargs: passed to `keras.Model`.

    Attributes:
        presets: dict from the names that `from_preset` of this class takes to `Preset`.
        trains_each_step: bool. Whether calls with `training=True` return the logits of
            each time step, for a loss of each. False; `fit` sets it, nothing saves it.

    Input shape:
        That of the backbone.

    Output shape:
        `(batch, num_classes)`: logits, in at least float32. Without a head,
        `(batch, channels)`. In training with `trains_each_step`,
        `(batch, time_steps, num_classes)`, whose mean over time are the logits.

    Raises:
        ValueError: if an argument is out of range.

    Example:
    >>> model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=2)
    >>> model(np.zeros((3, 8, 8, 1), "float32")).shape
    (3, 10)
    """

    presets = _OwnPresets()

    def __init__(
        self,
        # In quotes, because `presets.declared` reads this constructor without Keras.
        backbone: "SpikingBackbone",
        num_classes: int | None = None,
        dropout: float = 0.0,
        preprocessing: dict | None = None,
        **kwargs,
    ):
        check_head(num_classes, dropout)
        policy = backbone.dtype_policy
        dtype = "float64" if policy.compute_dtype == "float64" else "float32"
        *_, x = backbone(backbone.input).values()
        x = Mean((2, 3), dtype=dtype, name="mean_over_tokens")(x)
        neuron = backbone.head_neuron()
        if neuron is not None:
            config = {**neuron.get_config(), "name": "head_neuron", "dtype": dtype}
            x = type(neuron).from_config(config)(x)
        x = Mean((1,), dtype=dtype, name="mean_over_time")(x)
        if dropout:
            x = keras.layers.Dropout(
                dropout,
                # Without a noise shape, Keras on PyTorch uses PyTorch's own generator,
                # whose state our checkpoints do not hold.
                noise_shape=(None, x.shape[-1]),
                dtype=dtype,
                name="dropout",
            )(x)
        if num_classes is not None:
            # Not Dense, which falls back from float64 to float32 on PyTorch.
            x = keras.layers.EinsumDense(
                "bc,cd->bd",
                num_classes,
                bias_axes="d",
                kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
                dtype=dtype,
                name="head",
            )(x)
        super().__init__(inputs=backbone.input, outputs=x, **kwargs)
        self.backbone = backbone
        self.num_classes = num_classes
        self.dropout = dropout
        self.trains_each_step = False
        self._preprocessing = preprocessing
        self._has_warned = False
        _ = self.preprocessor  # Raises now if an argument of it is out of range.

    @property
    def examples_are_independent(self) -> bool:
        return self.backbone.membrane_state == "sample"

    def call(self, inputs, training=None, mask=None):
        if training and self.trains_each_step:
            return self.logits_of_steps(inputs, training=True)
        return super().call(inputs, training=training, mask=mask)

    def logits_of_steps(
        self, inputs: Any, training: bool | None = None, features: Any = None
    ) -> Any:
        """Return the logits of each time step, which the model averages.

        Args:
            inputs: tensor, as for a call.
            training: bool, or `None` for inference.
            features: what the backbone returns for these inputs, or `None` to call it.

        Returns:
            Tensor `(batch, time_steps, num_classes)`. Without a head,
            `(batch, time_steps, channels)`.
        """
        if features is None:
            features = self.backbone(inputs, training=training)
        *_, x = features.values()
        _, _, *head = self.layers  # Without the input and the backbone.
        for layer in head:
            if layer.name == "mean_over_time":
                # Time into batch: what follows takes one vector per sample.
                steps = x.shape[1]
                x = ops.reshape(x, (-1, x.shape[-1]))
            else:
                x = layer(x, training=training)
        return ops.reshape(x, (-1, steps, x.shape[-1]))

    def neurons(self) -> dict[str, IF]:
        """Return the neuron layers by name, as in streams and exports.

        Returns:
            dict from the path of each layer, such as `patch_embed1_unit0` or
            `stage1_block1_attention_query`, to the layer.
        """
        return {
            layer.path.removesuffix("/neuron").replace("/", "_"): layer
            for layer in reversed(self._flatten_layers())
            if isinstance(layer, IF)
        }

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "dropout": self.dropout,
            "preprocessing": self._preprocessing,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        backbone = keras.saving.deserialize_keras_object(
            config["backbone"], custom_objects
        )
        return cls(**{**config, "backbone": backbone})

    @overload
    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike,
        weights: str | None = None,
        trust: bool = False,
        preprocess: Literal[False] = False,
        revision: str | None = None,
        **overrides: Any,
    ) -> Self: ...

    @overload
    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike,
        weights: str | None = None,
        trust: bool = False,
        *,
        preprocess: Literal[True],
        revision: str | None = None,
        **overrides: Any,
    ) -> keras.Model: ...

    @classmethod
    def from_preset(
        cls,
        preset,
        weights=None,
        trust=False,
        preprocess=False,
        revision=None,
        **overrides,
    ):
        """Load a model from the name of a preset, a preset folder, or its address.

        The name of a preset gives a new model with random weights, because the authors'
        weights are no longer published, or with weights trained with this library. A
        folder (see `save_to_preset`) gives a model with the weights in it; if an
        override changes the number of classes, the head gets random weights.

        Args:
            preset: str or path. A name in `PRESETS`; a folder; the name of weights as
                in `weights`, with the preset that they belong to; or an address:
                `"https://host/folder"`, `"hf://owner/repository"` or
                `"kaggle://owner/model/framework/variation"`, optionally with
                `"#sha256=..."` of its `manifest.json`. Fetched folders are kept in
                `$KERAS_QKFORMER_CACHE` or `~/.cache/keras_qkformer`.
            weights: str, or `None`. With a name in `PRESETS`: name of a folder of
                weights trained from that preset, in `weights/` of the checkout, as
                installed, or in `$KERAS_QKFORMER_WEIGHTS`. The model gets the arguments
                of that folder. `None` gives random weights.
            trust: bool. Whether to load a folder whose files differ from its
                `manifest.json` all the same, with a warning.
            preprocess: bool. Whether to return a `keras.Model` that takes pixels from 0
                to 255 (or counts of events) of the preset's `image_size`: the model
                behind its `preprocessor`. `preprocessor` itself also resizes.
            revision: str, a branch, tag or commit of the repository at an address of
                `hf://`, or `None` for its newest one.
            **overrides: arguments of the backbone or the classifier to replace, such as
                `image_size`, `time_steps`, `num_classes`.

        Returns:
            The classifier of the preset's family; its inputs are normalized, see
            `preprocessor`.

        Raises:
            ValueError: if the preset does not exist or belongs to another class; an
                override is unknown or has the wrong type; the folder is of an unknown
                family or a newer format; a file differs from the folder's manifest; the
                weights don't fit the model with the overrides, or are not finite; or,
                with `preprocess`, it is not known how inputs were normalized.
            OSError: if an address can't be reached.
        """
        preset = locate(preset, weights, revision)
        with trusting(trust):
            model = cls._loaded(preset, overrides)
        model._preprocessing = preprocessing_of(preset)
        if not preprocess:
            return model
        if model.preprocessor is None:
            raise ValueError(
                "preprocess=True needs a preset that says how its inputs were "
                f"normalized. Received: {str(preset)!r}"
            )
        pixels = keras.Input(model.input_shape[1:], name="pixels")
        return SpikingModel(pixels, model(model.preprocessor(pixels)), name=model.name)

    @classmethod
    def _loaded(cls, preset, overrides):
        is_folder = isinstance(preset, Path)
        weights = check_preset_and_read(preset) if is_folder else None
        family, arguments, path = resolve_preset(preset)
        if weights is None:
            return cls.from_arguments(family, {**arguments, **overrides})
        stored = path.stat().st_size if path.is_file() else 0
        saved = cls.from_arguments(family, arguments, stored)
        load_finite_weights(
            saved, weights(), f"The weights must fit the {CONFIG_FILE} beside them."
        )
        if not overrides:
            return saved
        model = cls.from_arguments(family, {**arguments, **overrides})
        copy_weights(saved.backbone, model.backbone)
        if None not in (saved.backbone.head_neuron(), model.backbone.head_neuron()):
            copy_weights(*(x.get_layer("head_neuron") for x in (saved, model)))
        if model.num_classes is not None and model.num_classes == saved.num_classes:
            model.get_layer("head").set_weights(saved.get_layer("head").get_weights())
        return model

    def calibrate(self, inputs: Any) -> None:
        """Set the moving statistics of every BatchNorm to those of a batch.

        A new model has means 0 and variances 1 there, with which few neurons fire, so
        before training it gives nearly the same logits for every input. Training does
        not need this method: it uses the statistics of each batch, and learns the
        moving ones on the way.

        Args:
            inputs: array `(batch, [time,] height, width, channels)`, as for `fit`. They
                pass the model once, as in training, but no weight is trained.
        """
        norms = [x for x in self._flatten_layers() if isinstance(x, BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        try:
            for norm in norms:
                norm.momentum = 0.0
            self(inputs, training=True)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum

    @property
    def preprocessor(self) -> Preprocessor | None:
        """The `Preprocessor` layer that makes this model's inputs from pixels.

        It takes pixels from 0 to 255, or counts of events, of any height and width.
        `None` if neither the model's preset nor its `preprocessing` says how inputs
        were normalized. Files of the model hold it.
        """
        if self._preprocessing is None:
            return None
        return Preprocessor(
            **{**self._preprocessing, "image_size": self.backbone.image_size},
            dtype=self.backbone.dtype_policy,
            name="preprocessor",
        )

    def predict(self, x: Any, *args, **kwargs) -> np.ndarray:
        """`keras.Model.predict`; warns once of inputs that are not normalized."""
        if isinstance(x, np.ndarray) and self._preprocessing is not None:
            self._warn_of_range(x)
        return super().predict(x, *args, **kwargs)

    def _warn_of_range(self, x):
        values = self._preprocessing
        mean, std = np.array(values["mean"]), np.array(values["std"])
        is_of_pixels = values.get("max_value", 255.0) == 255.0
        if self._has_warned or not is_of_pixels or not len(x):
            return
        low, high = (-mean / std).min(), ((1 - mean) / std).max()
        found = float(np.min(x[:8])), float(np.max(x[:8]))
        if found[0] < low - 4 * (high - low) or found[1] > high + 4 * (high - low):
            self._has_warned = True
            warnings.warn(
                f"The model was trained on inputs from {low:.3g} to {high:.3g}; its "
                "`preprocessor` makes them from pixels. "
                f"Received: {found[0]:.3g} to {found[1]:.3g}",
                stacklevel=3,
            )

    def save_to_preset(
        self,
        folder: str | os.PathLike,
        metadata: dict | None = None,
        weights_format: str = "h5",
    ) -> None:
        """Save the model to a folder that `from_preset` loads, on any backend.

        The folder then holds `config.json` (family and arguments), `model.weights.h5`
        or `model.safetensors`, `metadata.json` (versions, date, number of parameters,
        `preprocessing` if it is known, and `metadata`), `README.md` (a model card, see
        `presets.card.make_card`), and `manifest.json` (size and SHA-256 of every file
        but the card, which nothing reads).

        Args:
            folder: str or path. Made if needed; a preset in it is replaced.
            metadata: dict that JSON can hold, or `None`. Added to the folder's
                metadata, for example the training data of the weights, their accuracy
                and their `"licence"`.
            weights_format: `"h5"` as Keras writes it, or `"safetensors"`, in which a
                tensor's name is the path of its variable with dots, such as
                `"stage1_block1.attention.query.conv.kernel"`.

        A process that is killed meanwhile leaves a folder in which either the old or
        the new files load.

        Raises:
            ValueError: if the backbone belongs to no registered family, or there is no
                such format.
            OSError: if the folder can't be written.
        """
        from keras_qkformer import __version__

        if weights_format not in WEIGHTS_FILES:
            raise ValueError(
                f"weights_format must be one of {[*WEIGHTS_FILES]}. "
                f"Received: weights_format={weights_format!r}"
            )
        folder = Path(folder)
        family = family_of(self.backbone)
        arguments = {
            **self.backbone.preset_arguments(),
            "num_classes": self.num_classes,
            "dropout": self.dropout,
        }
        bare = self
        if self.compiled:
            # Save an uncompiled copy: a compiled model would save its optimizer too.
            bare = self.from_arguments(family, arguments)
            bare.set_weights(self.get_weights())
        metadata = {
            "keras_qkformer": __version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "date": datetime.date.today().isoformat(),
            "parameters": count_parameters(self),
            "manifest": True,
            **self._preprocessing_entry(),
            **(metadata or {}),
        }
        with writing(folder), beside(folder / NEW_FOLDER) as new:
            new.mkdir()
            write_config(new / CONFIG_FILE, family, arguments)
            place = new / WEIGHTS_FILES[weights_format]
            if weights_format == "h5":
                bare.save_weights(place)
            else:
                save_safetensors(bare, place)
            write_json(new / METADATA_FILE, metadata)
            if not is_edited(folder):
                write_card(new)
            replace_preset(new, folder)

    def _preprocessing_entry(self):
        """What `preprocessing_of` reads of the metadata, as an entry of them."""
        if self.preprocessor is None:
            return {}
        config, own = self.preprocessor.get_config(), parameters_of(Preprocessor)
        return {"preprocessing": {k: v for k, v in config.items() if k in own}}

    @classmethod
    def from_arguments(
        cls, family: Family, arguments: dict, stored: int | None = None
    ) -> Self:
        """Make a new model from one dictionary of arguments, as in presets.

        Args:
            family: `Family`, see `register_family`.
            arguments: dict of arguments of the family's backbone, and of `num_classes`
                and `dropout`.
            stored: int, or `None`. Bytes of the file with its weights: a model that is
                far larger is refused before it takes memory.

        Returns:
            The classifier of the family.

        Raises:
            ValueError: if this class is the classifier of another family, or an
                argument is unknown, missing, of the wrong type or out of range, or the
                model is far larger than its weights.
        """
        if not cls._is_of(family):
            raise ValueError(
                f"A preset for {cls.__name__} must be of its family; SpikingClassifier "
                f"takes those of all. Received: one of {family.name!r}"
            )
        parameters = model_parameters(family.backbone, SpikingClassifier)
        check_arguments(parameters, arguments)
        if stored is not None:
            defaults = {name: each.default for name, each in parameters.items()}
            check_extent({**defaults, **arguments}, stored)
        try:
            keras.dtype_policies.get(arguments.get("dtype"))
        except (TypeError, ValueError) as error:
            raise ValueError(
                "dtype must be a Keras dtype policy, such as 'mixed_bfloat16'. "
                f"Received: dtype={arguments['dtype']!r}"
            ) from error
        own = parameters_of(SpikingClassifier)
        rest = {k: v for k, v in arguments.items() if k not in own}
        own = {k: v for k, v in arguments.items() if k in own}
        made = family.classifier or SpikingClassifier
        return made(family.backbone(**rest, name="backbone"), **own)

    @classmethod
    def _is_of(cls, family):
        """Whether this is the classifier of a family, a base of it, or a subclass."""
        made = family.classifier or SpikingClassifier
        return issubclass(made, cls) or issubclass(cls, family.classifier or ())


@keras.saving.register_keras_serializable(package="keras_qkformer")
class Mean(keras.layers.Layer):
    """Mean over axes, in float64 on every backend if the layer's dtype is float64.

    Args:
        axes: tuple of int. Axes of known size.
        **kwargs: passed to `keras.layers.Layer`.
    """

    def __init__(self, axes, **kwargs):
        super().__init__(**kwargs)
        self.axes = tuple(axes)

    def call(self, inputs):
        count = 1
        for axis in self.axes:
            count *= inputs.shape[axis]
        return ops.sum(inputs, self.axes) / count

    def compute_output_shape(self, input_shape):
        return tuple(n for i, n in enumerate(input_shape) if i not in self.axes)

    def get_config(self):
        return {**super().get_config(), "axes": list(self.axes)}


def count_parameters(model: keras.layers.Layer) -> int:
    """Count the values of a model that training can change, as papers count parameters.

    Args:
        model: Keras model or layer. Parts of it may be frozen.

    Returns:
        int.
    """
    layers = model._flatten_layers()
    variables = (v for layer in layers for v in layer._trainable_variables)
    return sum(math.prod(variable.shape) for variable in variables)
