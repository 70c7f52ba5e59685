"""Patch embedding by a chain of spiking units: SPS and its relatives."""

import dataclasses
from collections.abc import Sequence

import keras
from keras import ops

from keras_qkformer.layers.conv_bn_lif import ConvBNLIF, check_divisible
from keras_qkformer.layers.neurons import neuron_for, serialize_neuron
from keras_qkformer.ops.spatial import max_pool2d

POOLS = (None, "spikes", "potentials")


@keras.saving.register_keras_serializable(package="keras_qkformer")
class SpikingPatchSplitting(keras.layers.Layer):
    """Spiking patch splitting (SPS): 3x3 convolutions with BatchNorm, neuron and pool.

    Each unit is one of

        unit(x) = SN(BN(conv(x)))
        unit(x) = pool(SN(BN(conv(x))))            pool "spikes"
        unit(x) = SN(pool(BN(conv(x))))            pool "potentials"

    and the position unit, if there is one, adds what depends on the neighbours of a
    token, as a relative position embedding:

        output = x + SN(BN(conv(x)))               x: spikes of the last unit

    With `pre_activation` the output is potentials. The last unit has no neuron, and one
    stands in front of the position unit:

        output = x + BN(conv(SN(x)))               x: potentials of the last unit

    Families write the same chain in other words: a unit of Spikingformer is
    `BN(conv(pool(SN(x))))`, and its neuron and pool are those of the unit before it
    here, so that BatchNorm and neuron run as one operation.

    | family | filters | where it pools | position unit | pre-activation |
    |---|---|---|---|---|
    | Spikformer | C/8, C/4, C/2, C | spikes | yes | no |
    | Spikformer + CML | the same | potentials | yes | no |
    | Spikingformer | C/8, C/4, C/2, C, C | spikes | no | yes |
    | Spikingformer + CML | the same | potentials | no | yes |
    | spike-driven | C/8, C/4, C/2, C | spikes, last potentials | yes | yes |

    Differences from the source: none intended.

    Args:
        filters: sequence of int > 0. Output channels of each unit.
        pools: sequence with, for each unit, `None`, or what a 3x3 max pooling of stride
            2 pools: `"spikes"`, behind the neuron, or `"potentials"`, before it.
        position_unit: bool. Whether the position unit follows.
        pre_activation: bool. Whether the output is potentials.
        time_steps: int or `None`. If given, the input has one time step and the first
            unit repeats it, see `ConvBNLIF`.
        neuron: a neuron layer used as template, or its name (`"lif"`, `"if"`,
            `"plif"`).
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        `(batch, time, height, width, channels)`, all but the batch known.

    Output shape:
        `(batch, time, height / reduction, width / reduction, filters[-1])`, where the
        reduction is 2 to the number of units that pool.

    Raises:
        ValueError: if there is no unit, or not one pool for each; a pool is unknown; a
            unit without a neuron pools spikes; or the reduction does not divide height
            and width.

    Example:
    >>> layer = SpikingPatchSplitting((4, 8), ("spikes", "potentials"), time_steps=4)
    >>> layer(np.zeros((2, 1, 32, 64, 3), "float32")).shape
    (2, 4, 8, 16, 8)

    Reference:
        `SPS` of the code of Spikformer, [Zhou et al., 2023](
        https://arxiv.org/abs/2209.15425); for `"potentials"` CML,
        [Zhou et al., 2023](https://arxiv.org/abs/2305.05954).
    """

    def __init__(
        self,
        filters: Sequence[int],
        pools: Sequence[str | None],
        position_unit: bool = True,
        pre_activation: bool = False,
        time_steps: int | None = None,
        neuron: str | keras.layers.Layer | dict = "lif",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = list(filters)
        self.pools = list(pools)
        self.position_unit = position_unit
        self.pre_activation = pre_activation
        self.time_steps = time_steps
        self.neuron = serialize_neuron(neuron)
        if not self.filters:
            raise ValueError("There must be at least one unit. Received: filters=[]")
        if len(self.filters) != len(self.pools) or not set(self.pools) <= set(POOLS):
            raise ValueError(
                f"pools must have one of {POOLS} for each of the filters. "
                f"Received: pools={self.pools}, filters={self.filters}"
            )
        if pre_activation and self.pools[-1] == "spikes":
            raise ValueError(
                "With pre_activation the last unit has no neuron whose spikes it could "
                f"pool. Received: pools={self.pools}"
            )
        last = len(self.filters) - 1
        self.units = [
            self._unit(
                f"unit{i}",
                count,
                has_neuron=not (pre_activation and i == last),
                max_pool=pool == "potentials",
                time_steps=time_steps if i == 0 else None,
            )
            for i, (count, pool) in enumerate(
                zip(self.filters, self.pools, strict=True)
            )
        ]
        self.position = self.position_neuron = None
        if position_unit:
            self.position = self._unit(
                "position", self.filters[-1], has_neuron=not pre_activation
            )
            if pre_activation:
                self.position_neuron = neuron_for(self, "position_neuron")

    def _unit(self, name, filters, has_neuron, **options):
        return ConvBNLIF(
            filters,
            neuron=self.neuron if has_neuron else None,
            dtype=self.dtype_policy,
            name=name,
            **options,
        )

    @property
    def reduction(self):
        """Factor by which the layer divides height and width."""
        return 2 ** sum(pool is not None for pool in self.pools)

    def build(self, input_shape):
        check_divisible(input_shape, self.reduction)
        shape = input_shape
        for unit, pool in zip(self.units, self.pools, strict=True):
            unit.build(shape)
            shape = _after(unit, pool, shape)
        if self.position is not None:
            self.position.build(shape)
        if self.position_neuron is not None:
            self.position_neuron.build(shape)

    def call(self, inputs, training=None):
        x = inputs
        for unit, pool in zip(self.units, self.pools, strict=True):
            x = unit(x, training=training)
            if pool == "spikes":
                x = max_pool2d(x)
        if self.position is None:
            return x
        y = x if self.position_neuron is None else self.position_neuron(x)
        return ops.add(x, self.position(y, training=training))

    def computations(self):
        """List the operations of the built layer, see `layers.computation`."""
        found = []
        for unit, pool in zip(self.units, self.pools, strict=True):
            (each,) = unit.computations()
            if pool == "spikes":
                repeats = unit.time_steps or 1
                each = dataclasses.replace(each, pooled=each.outputs * repeats)
            found.append(each)
        if self.position is not None:
            found += self.position.computations()
        return found

    def compute_output_shape(self, input_shape):
        for unit, pool in zip(self.units, self.pools, strict=True):
            input_shape = _after(unit, pool, input_shape)
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "pools": self.pools,
            "position_unit": self.position_unit,
            "pre_activation": self.pre_activation,
            "time_steps": self.time_steps,
            "neuron": self.neuron,
        }


def _after(unit, pool, input_shape):
    """The shape behind a unit and its pool."""
    batch, time, height, width, channels = unit.compute_output_shape(input_shape)
    if pool == "spikes":
        height, width = height // 2, width // 2
    return (batch, time, height, width, channels)
