"""Golden files of whole models: the authors' arrays beside a model of ours."""

import json
import math
from pathlib import Path

import keras
import numpy as np

from keras_qkformer.convert import load_state_dict
from keras_qkformer.models import QKFormerBackbone, QKFormerClassifier

SMALL = "qkformer_small"  # In this repository, and a part of the DVS file.
LARGE = ("qkformer_imagenet", "qkformer_cifar", "qkformer_dvs", "ms_qkformer_imagenet")


class Golden:
    """One golden file.

    Attributes:
        arrays: dict of the file's arrays in the authors' layout, `(T, B, C, H, W)`.
        config: dict of the sizes of the model.
        inputs: the inputs in our layout.
        weights: dict from the authors' names to the weights.
    """

    def __init__(self, name, shared_golden):
        self.name = name
        if name == SMALL:
            self.arrays = _read_small()
        else:
            self.arrays = shared_golden(name)
        self.config = json.loads(str(self.arrays["config_json"]))
        x = self.arrays["x"]
        self.inputs = np.moveaxis(x, -3, -1).astype("float64")
        self.weights = self.group("state_dict/")

    def group(self, prefix):
        """The arrays whose names start with `prefix`, without it."""
        return {
            name.removeprefix(prefix): self.arrays[name]
            for name in self.arrays
            if name.startswith(prefix)
        }

    def features(self):
        """The outputs of all parts in our layout, by the names of the parts."""
        return {
            name: array.transpose(1, 0, 3, 4, 2)
            for name, array in self.group("eval/features/").items()
        }

    def model(self, **overrides):
        """A classifier of ours with the authors' weights."""
        arguments = dict(self.config)
        del arguments["min_margin_to_threshold"]
        num_classes = arguments.pop("num_classes")
        arguments["static"] = self.config["family"] != "dvs"
        backbone = QKFormerBackbone(**{**arguments, **overrides})
        model = QKFormerClassifier(backbone, num_classes)
        load_state_dict(model, self.weights)
        return model


def with_features(model):
    """A model with the outputs of all parts and the logits, in one dictionary."""
    backbone = model.backbone
    parts = {
        layer.name: layer.output
        for layer in backbone.layers
        if layer.name.startswith("patch_embed")
    }
    return keras.Model(
        backbone.input, {**parts, **backbone.output, "logits": model.output}
    )


def _read_small():
    """The arrays of the small file, with the weights under their names again."""
    arrays = dict(np.load(Path(__file__).parent / "golden" / f"{SMALL}.npz"))
    shapes = json.loads(str(arrays.pop("shapes_json")))
    values = arrays.pop("weight_bytes").T.copy().view("float32").ravel()
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    for (name, shape), part in zip(
        shapes.items(), np.split(values, ends[:-1]), strict=True
    ):
        arrays[name] = part.reshape(shape)
    return arrays
