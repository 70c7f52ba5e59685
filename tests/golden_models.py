"""Golden files of whole models: the authors' arrays beside a model of ours.

A family of models adds its files to `FILES` and a row to `FAMILIES`; the tests of
`tests/models/test_golden.py` and `test_families.py` then run on it.
"""

import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from keras_qkformer.convert import load_state_dict
from keras_qkformer.models import (
    MaxFormerBackbone,
    QKFormerBackbone,
    SEWResNetBackbone,
    SpikeDrivenTransformerBackbone,
    SpikformerBackbone,
    SpikingClassifier,
    SpikingformerBackbone,
)
from keras_qkformer.models.preset import family_of

# In this repository, each a part of a larger file.
SMALL = "qkformer_small"
SMALLS = (
    SMALL,
    "spikformer_small",
    "spikingformer_small",
    "sdt_small",
    "max_former_small",
    "sew_small",
)
QKFORMER = (
    "qkformer_imagenet",
    "qkformer_cifar",
    "qkformer_dvs",
    "ms_qkformer_imagenet",
)


def _qkformer(config):
    arguments = dict(config)
    del arguments["min_margin_to_threshold"], arguments["num_classes"]
    return {**arguments, "static": config["family"] != "dvs"}


def _sizes(config):
    """Arguments of all families of one stem and a chain of blocks."""
    same = ("image_size", "in_channels", "time_steps", "embed_dim", "num_heads")
    return {
        **{key: config[key] for key in same},
        "mlp_ratio": config["mlp_ratio"],
        "depth": config["depths"],
        "static": config["in_channels"] != 2,
    }


def _chain(config):
    return {
        **_sizes(config),
        "reduction": 4 if config["variant"] == "cifar" else 16,
        "downsampling": config.get("downsampling", "spikes"),
        "tau": None if config["tau"] == 2.0 else config["tau"],
    }


def _spikformer(config):
    return {
        **_chain(config),
        "attention_scale": config["attention_scale"],
        "attention_bias": config["variant"] == "cifar",
    }


def _spike_driven(config):
    return {
        **_sizes(config),
        "reduction": 2 ** config["pooling"].count("1"),
        "dilate": config["dvs_mode"],
        "neuron": config["spike_mode"],
    }


def _max_former(config):
    same = ("image_size", "in_channels", "time_steps", "embed_dim", "num_heads")
    names = {"identity": "identity", "ssa": "self"}
    return {
        **{key: config[key] for key in (*same, "depths", "mlp_ratio")},
        "static": config["in_channels"] != 2,
        "stem": {"event": "events"}.get(config["variant"], config["variant"]),
        "mixers": tuple(
            names.get(mixer) or mixer.replace("dwc", "depthwise")
            for mixer in config["mixers"]
        ),
    }


def _sew(config):
    same = ("image_size", "in_channels", "time_steps", "surrogate")
    arguments = {key: config[key] for key in same}
    arguments["connect"] = config["connect"].lower()
    if config["variant"] == "imagenet":
        same = {key: config[key] for key in ("stem_width", "widths", "depths")}
        return {**arguments, **same, "bottleneck": config["block"] == "Bottleneck"}
    stages = config["layer_list"]
    return {
        **arguments,
        "static": False,
        "stem_width": None,
        "widths": [stage["channels"] for stage in stages],
        "depths": [stage["num_blocks"] for stage in stages],
        "neuron": config["neuron"],
    }


@dataclasses.dataclass(frozen=True)
class Family:
    """How the golden files of a family are read.

    Attributes:
        backbone: class of the backbone.
        arguments: function of a file's `config` that returns the backbone's arguments.
        layer_names: dict from patterns of names of features to those of our layers.
            Features without a pattern are our stages.
    """

    backbone: type
    arguments: Callable
    layer_names: dict


_CHAIN_NAMES = {r"patch_embed": "patch_embed", r"block\.(\d+)": "block{}"}
FAMILIES = {
    "qkformer": Family(
        QKFormerBackbone, _qkformer, {r"patch_embed(\d)": "patch_embed{}"}
    ),
    "spikformer": Family(SpikformerBackbone, _spikformer, _CHAIN_NAMES),
    "spike_driven_transformer": Family(
        SpikeDrivenTransformerBackbone, _spike_driven, _CHAIN_NAMES
    ),
    "spikingformer": Family(SpikingformerBackbone, _chain, _CHAIN_NAMES),
    "max_former": Family(
        MaxFormerBackbone,
        _max_former,
        {
            r"patch_embed(\d)": "patch_embed{}",
            r"stage(\d)\.(\d+)": "stage{}_block{}",
        },
    ),
    "sew_resnet": Family(
        SEWResNetBackbone,
        _sew,
        {
            "stem": "stem_pool",
            r"layer(\d)": "stage{}",
            # Modules of the network for events: after the fourth stage, of each stage
            # the block and the pool; the fifth has another width; at last a flatten.
            "conv.7": "stage4_block1",
            "conv.8": "stage4",
            "conv.9": "stage5_unit",
            "conv.10": "stage5_block1",
            "conv.11": "stage5",
            "conv.12": "stage6_block1",
            "conv.13": "stage6",
            "conv.14": "stage7_block1",
            "conv.1[56]": "stage7",
        },
    ),
}
RELATIVES = (
    "spikformer_cifar10",
    "spikformer_cifar10dvs",
    "spikformer_imagenet",
    "cml_spikformer_cifar10",
    "spikingformer_cifar10",
    "spikingformer_dvs",
    "spikingformer_imagenet",
    "cml_spikingformer_cifar10",
    "cml_spikingformer_dvs",
    "cml_spikingformer_imagenet",
    "sdt_cifar10",
    "sdt_cifar10dvs",
    "sdt_gesture",
    "sdt_imagenet",
    "sdt_mlp1",
    "sdt_plif",
)
MAX_FORMERS = ("max_former_cifar", "max_former_event", "max_former_imagenet")
SEWS = ("sew_dvs", "sew_resnet_basic", "sew_resnet_bottleneck")
LARGE = (*QKFORMER, *RELATIVES, *MAX_FORMERS, *SEWS)
# Files for what is tested once for each family.
ONCE = (*SMALLS, *QKFORMER)


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
        if name in SMALLS:
            self.arrays = _read_small(name)
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

    @property
    def family(self):
        """The `Family` of the file; files of QKFormer do not name it."""
        is_relative = "variant" in self.config
        return FAMILIES[self.config["family"] if is_relative else "qkformer"]

    def features(self):
        """The outputs of all parts in our layout, by the names of our layers."""
        return {
            self._layer_name(name): self._in_our_layout(array)
            for name, array in self.group("eval/features/").items()
        }

    def _layer_name(self, name):
        for pattern, ours in self.family.layer_names.items():
            found = re.fullmatch(pattern, name)
            if found:
                numbers = [int(n) for n in found.groups()]
                numbers[-1:] = [n + ("." in name) for n in numbers[-1:]]
                return ours.format(*numbers)
        return name

    def _in_our_layout(self, array):
        if array.ndim == 3:  # (T, B, C) of one token.
            array = array[..., None, None]
        if array.ndim == 4:  # (T, B, tokens, C) or (T, B, C, tokens) of a square map.
            if array.shape[2] != self.config["embed_dim"]:
                array = np.swapaxes(array, 2, 3)
            side = math.isqrt(array.shape[3])
            array = array.reshape(*array.shape[:3], side, side)
        return array.transpose(1, 0, 3, 4, 2)

    def model(self, **overrides):
        """A classifier of ours with the authors' weights.

        Without overrides, each call gives the same one with its weights set back, since
        to make one takes as long as many a test of it.
        """
        if overrides:
            return self._make_model(overrides)
        key = self.name, keras.config.dtype_policy().name
        if key not in _MADE:
            model = self._make_model({})
            _MADE[key] = model, model.get_weights()
        model, weights = _MADE[key]
        model.set_weights(weights)
        return model

    def _make_model(self, overrides):
        arguments = self.family.arguments(self.config)
        backbone = self.family.backbone(**{**arguments, **overrides})
        made = family_of(backbone).classifier or SpikingClassifier
        model = made(backbone, self.config["num_classes"])
        load_state_dict(model, self.weights)
        return model


_MADE = {}
"""By file and precision: a model and its weights, see `Golden.model`."""


def with_features(golden, model):
    """A model with the outputs of all parts and the logits, in one dictionary."""
    backbone, outputs = model.backbone, {}
    for name in golden.features():
        stage = backbone.output.get(name)
        outputs[name] = backbone.get_layer(name).output if stage is None else stage
    return keras.Model(backbone.input, {**outputs, "logits": model.output})


def _read_small(name):
    """The arrays of a small file, with the weights under their names again."""
    arrays = dict(np.load(Path(__file__).parent / "golden" / f"{name}.npz"))
    shapes = json.loads(str(arrays.pop("shapes_json")))
    values = arrays.pop("weight_bytes").T.copy().view("float32").ravel()
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    for (name, shape), part in zip(
        shapes.items(), np.split(values, ends[:-1]), strict=True
    ):
        arrays[name] = part.reshape(shape)
    return arrays
