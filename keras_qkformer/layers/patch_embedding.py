"""Patch embedding with a shortcut, for the families of models."""

import dataclasses

import keras
from keras import ops

from keras_qkformer.layers.conv_bn_lif import ConvBNLIF, check_divisible
from keras_qkformer.layers.neurons import neuron_for, serialize_neuron

# For each family: the units of the main path as (fraction of the filters, how the unit
# halves the map), the number of units before the shortcut branches off, and how the
# shortcut shrinks the map.
_STEMS = {
    "imagenet": (((1 / 2, "pool"), (1, "pool"), (1, None)), 1, "stride"),
    "cifar": (((1 / 2, None), (1, None)), 1, "stride"),
    "dvs": (
        ((1 / 8, None), (1 / 4, "pool"), (1 / 2, "pool"), (1, "pool")),
        2,
        "stride",
    ),
    "max": (((1 / 2, "stride"), (1, "stride"), (1, None)), 1, "stride"),
}
_STAGES = {
    "imagenet": (((1, "pool"), (1, None)), 0, "stride"),
    "cifar": (((1, None), (1, "pool")), 0, "stride"),
    "dvs": (((1, None), (1, "pool")), 0, "stride"),
    "max": (((1, "pool"), (1, None)), 0, "pool"),
}
FAMILIES = tuple(_STEMS)


@keras.saving.register_keras_serializable(package="keras_qkformer")
class PatchEmbedding(keras.layers.Layer):
    """Spiking patch embedding with deformed shortcut (SPEDS).

    The main path is a chain of units `SN(pool(BN(conv3x3(x))))`, some without pooling.
    The shortcut takes the spikes after the first units, or the input of a later stage,
    and brings them to the same size with a strided 1x1 convolution (in `max` with a
    pooling behind it). The spikes of both paths are added:

        output = main(x) + SN(BN(conv1x1(x after the first units)))

    | family | stem: reduction, units | later stages: reduction, units |
    |---|---|---|
    | `imagenet` | 4: C/2 pool, C pool, C; shortcut after one | 2: C pool, C |
    | `cifar` | 1: C/2, C; shortcut after one | 2: C, C pool |
    | `dvs` | 8: C/8, C/4 pool, C/2 pool, C pool; shortcut after two | 2: C, C pool |
    | `max` | 4: C/2 stride 2, C stride 2, C; shortcut after one | 2: C pool, C |

    Differences from the source: none intended.

    Args:
        filters: int > 0. Output channels C.
        family: `"imagenet"`, `"cifar"`, `"dvs"`, or `"max"` for the stem for ImageNet
            and all later stages of Max-Former.
        stem: bool. Whether this is the first embedding, which receives the image.
        deformed_shortcut: bool. Whether there is a shortcut (an ablation of the paper
            leaves it out).
        pre_activation: bool. If true, both paths end without a neuron, so that
            potentials are added. A later stage then starts with one neuron that feeds
            both paths (MS-QKFormer).
        time_steps: int or `None`. If given, the input has one time step and the first
            unit repeats it, see `ConvBNLIF`.
        neuron: a neuron layer used as template, or its name (`"lif"`, `"if"`,
            `"plif"`).
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        `(batch, time, height, width, channels)`, all but the batch known.

    Output shape:
        `(batch, time, height / reduction, width / reduction, filters)`.

    Raises:
        ValueError: if the family is unknown, a fraction of `filters` that it needs is
            not a whole number, or the reduction does not divide height and width.

    Example:
    >>> layer = PatchEmbedding(16, family="imagenet", stem=True, time_steps=4)
    >>> layer(np.zeros((2, 1, 32, 64, 3), "float32")).shape
    (2, 4, 8, 16, 16)

    Reference:
        [Zhou et al., 2024](https://openreview.net/forum?id=AVd7DpiooC), section on
        SPEDS; `PatchEmbedInit` and `PatchEmbeddingStage` of the authors' code. For
        `max` [Fang et al., 2025](https://arxiv.org/abs/2505.18608).
    """

    def __init__(
        self,
        filters: int,
        family: str = "imagenet",
        stem: bool = False,
        deformed_shortcut: bool = True,
        pre_activation: bool = False,
        time_steps: int | None = None,
        neuron: str | keras.layers.Layer | dict = "lif",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if family not in FAMILIES:
            raise ValueError(
                f"family must be one of {FAMILIES}. Received: family={family!r}"
            )
        self.filters = filters
        self.family = family
        self.stem = stem
        self.deformed_shortcut = deformed_shortcut
        self.pre_activation = pre_activation
        self.time_steps = time_steps
        self.neuron = serialize_neuron(neuron)
        plan, self.shortcut_from, way = (_STEMS if stem else _STAGES)[family]
        for fraction, _ in plan:
            if filters * fraction != int(filters * fraction):
                raise ValueError(
                    f"filters must be a multiple of {int(1 / fraction)} in family "
                    f"{family!r}. Received: filters={filters}"
                )
        takes_potentials = pre_activation and not stem
        self.input_neuron = (
            neuron_for(self, "input_neuron") if takes_potentials else None
        )
        self.main = [
            self._unit(
                f"unit{i}",
                int(filters * fraction),
                time_steps=time_steps if i == 0 else None,
                is_last=i == len(plan) - 1,
                **_shrinking(halving, 2 if halving else 1),
            )
            for i, (fraction, halving) in enumerate(plan)
        ]
        left = 2 ** sum(
            halving is not None for _, halving in plan[self.shortcut_from :]
        )
        self.shortcut = (
            self._unit(
                "shortcut",
                filters,
                kernel_size=1,
                is_last=True,
                **_shrinking(way, left),
            )
            if deformed_shortcut
            else None
        )

    def _unit(self, name, filters, is_last, **options):
        return ConvBNLIF(
            filters,
            neuron=None if self.pre_activation and is_last else self.neuron,
            dtype=self.dtype_policy,
            name=name,
            **options,
        )

    @property
    def reduction(self):
        """Factor by which the layer divides height and width."""
        return family_reduction(self.family, self.stem)

    def build(self, input_shape):
        check_divisible(input_shape, self.reduction)
        if self.input_neuron is not None:
            self.input_neuron.build(input_shape)
        shape = input_shape
        for i, unit in enumerate(self.main):
            if self.shortcut is not None and i == self.shortcut_from:
                self.shortcut.build(shape)
            unit.build(shape)
            shape = unit.compute_output_shape(shape)

    def call(self, inputs, training=None):
        x = inputs if self.input_neuron is None else self.input_neuron(inputs)
        branch = x
        for i, unit in enumerate(self.main):
            if i == self.shortcut_from:
                branch = x
            x = unit(x, training=training)
        if self.shortcut is None:
            return x
        return ops.add(x, self.shortcut(branch, training=training))

    def computations(self):
        """List the operations of the built layer, see `layers.computation`."""
        found = []
        for i, unit in enumerate(self.main):
            if self.shortcut is not None and i == self.shortcut_from:
                (shortcut,) = self.shortcut.computations()
                found.append(dataclasses.replace(shortcut, shares_input=True))
            found += unit.computations()
        return found

    def compute_output_shape(self, input_shape):
        for unit in self.main:
            input_shape = unit.compute_output_shape(input_shape)
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "family": self.family,
            "stem": self.stem,
            "deformed_shortcut": self.deformed_shortcut,
            "pre_activation": self.pre_activation,
            "time_steps": self.time_steps,
            "neuron": self.neuron,
        }


def _shrinking(way, reduction):
    """The options of a `ConvBNLIF` that shrinks a map."""
    return {"max_pool": True} if way == "pool" else {"strides": reduction}


def family_reduction(family, stem):
    """Return the factor by which a patch embedding divides height and width.

    Args:
        family: `"imagenet"`, `"cifar"`, `"dvs"` or `"max"`.
        stem: bool. Whether it is the first embedding.

    Returns:
        int.
    """
    plan, *_ = (_STEMS if stem else _STAGES)[family]
    return 2 ** sum(halving is not None for _, halving in plan)
