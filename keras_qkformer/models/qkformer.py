"""QKFormer: the backbone and the classifier."""

import keras

from keras_qkformer.layers.neurons import get_neuron
from keras_qkformer.layers.patch_embedding import (
    PatchEmbedding,
)
from keras_qkformer.layers.qkformer_block import QKFormerBlock
from keras_qkformer.models.backbone import (
    SpikingBackbone,
    spiking_input,
    stochastic_depth_rates,
)
from keras_qkformer.models.classifier import SpikingClassifier
from keras_qkformer.models.preset import register_family
from keras_qkformer.presets.arguments import per_stage
from keras_qkformer.presets.qkformer import FAMILY, PRESETS, check_ranges


@keras.saving.register_keras_serializable(package="keras_qkformer")
class QKFormerBackbone(SpikingBackbone):
    """Hierarchical spiking transformer that outputs the features of every stage.

    Each stage is a patch embedding, which shrinks the image and widens the channels,
    followed by blocks of attention and MLP. The last stage has `embed_dim` channels;
    every other stage has half as many as the next.

    Differences from the source: every sample starts at rest, see `membrane_state` of
    `SpikingSelfAttention`. The authors' code takes a rate of stochastic depth but never
    applies it; here `drop_path` is applied, and is 0 by default.

    Args:
        image_size: int or (height, width), in pixels; a multiple of 16 (`"imagenet"`,
            three stages; `"dvs"`, two stages) or 4 (`"cifar"`, three stages).
        in_channels: int > 0. 1 for grey images, 3 for colour images, 2 for event frames
            (OFF, ON).
        static: bool. If true, the input is an image, shown for `time_steps` time steps;
            if false, it has one frame per time step.
        time_steps: int > 0. Number of time steps T.
        family: `"imagenet"`, `"cifar"` or `"dvs"`. Selects the patch embeddings.
        embed_dim: int > 0. Channels of the last stage.
        depths: tuple of int > 0. Number of blocks in each stage; its length is the
            number of stages.
        num_heads: int > 0, or a tuple with one per stage. Divides the channels of the
            stage.
        mlp_ratio: float > 0. Hidden channels of the MLPs over their input channels.
        attention: `"token"`, `"channel"` or `"self"`, or a tuple with one per stage.
            `None` for the published mix: `"self"` in the last stage, `"token"` before.
        residual: `"add"` as published, or `"pre_activation"` (MS-QKFormer).
        neuron: `"lif"`, `"if"` or `"plif"`.
        tau: float > 1, or `None` for 2. Membrane time constant, in time steps.
        surrogate: str. Name of the surrogate derivative.
        deformed_shortcut: bool. Whether the patch embeddings have their shortcut.
        drop_path: float in [0, 1). Rate of stochastic depth in the last block; the
            rates grow linearly from 0 in the first block.
        membrane_state: `"sample"`, or `"batch"` to reproduce a defect of the authors'
            code, see `SpikingSelfAttention`.
        dtype: a dtype or policy for all layers, or `None` for the global policy.
        **kwargs: passed to `keras.Model`.

    Input shape:
        `(batch, height, width, in_channels)` if static, else
        `(batch, time_steps, height, width, in_channels)`.

    Output shape:
        Dictionary from `"stage1"`, `"stage2"`, ... to
        `(batch, time_steps, height / reduction, width / reduction, channels)`.

    Raises:
        ValueError: if an argument is out of range, or two do not fit together.

    Example:
    >>> backbone = QKFormerBackbone((32, 48), family="cifar", embed_dim=32, num_heads=2)
    >>> features = backbone(np.zeros((1, 32, 48, 3), "float32"))
    >>> {stage: tuple(x.shape) for stage, x in features.items()}  # doctest: +ELLIPSIS
    {'stage1': (1, 4, 32, 48, 8), ..., 'stage3': (1, 4, 8, 12, 32)}

    Reference:
        [Zhou et al., 2024](https://openreview.net/forum?id=AVd7DpiooC).
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        in_channels: int = 3,
        static: bool = True,
        time_steps: int = 4,
        family: str = "imagenet",
        embed_dim: int = 384,
        depths: tuple[int, ...] = (1, 2, 7),
        num_heads: int | tuple[int, ...] = 6,
        mlp_ratio: float = 4,
        attention: str | tuple[str, ...] | None = None,
        residual: str = "add",
        neuron: str = "lif",
        tau: float | None = None,
        surrogate: str = "sigmoid",
        deformed_shortcut: bool = True,
        drop_path: float = 0.0,
        membrane_state: str = "sample",
        dtype: "str | keras.DTypePolicy | None" = None,
        **kwargs,
    ):
        depths = tuple(depths)
        arguments = {
            "image_size": image_size,
            "in_channels": in_channels,
            "static": static,
            "time_steps": time_steps,
            "family": family,
            "embed_dim": embed_dim,
            "depths": depths,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "attention": attention,
            "residual": residual,
            "neuron": neuron,
            "tau": tau,
            "surrogate": surrogate,
            "deformed_shortcut": deformed_shortcut,
            "drop_path": drop_path,
            "membrane_state": membrane_state,
        }
        check_ranges(arguments)
        stages = len(depths)
        heads = per_stage("num_heads", num_heads, stages)
        if attention is None:
            attention = ("token",) * (stages - 1) + ("self",)
        attention = per_stage("attention", attention, stages)
        inputs, x, image_size = spiking_input(
            image_size, in_channels, static, time_steps
        )
        arguments.update(image_size=image_size, num_heads=heads, attention=attention)
        shared = {
            "pre_activation": residual == "pre_activation",
            "neuron": get_neuron(neuron, tau, surrogate),
            "dtype": dtype,
        }
        rates = stochastic_depth_rates(drop_path, sum(depths))
        features = {}
        for stage, depth in enumerate(depths):
            x = PatchEmbedding(
                embed_dim // 2 ** (stages - 1 - stage),
                family=family,
                stem=stage == 0,
                deformed_shortcut=deformed_shortcut,
                time_steps=time_steps if static and stage == 0 else None,
                name=f"patch_embed{stage + 1}",
                **shared,
            )(x)
            for i in range(depth):
                x = QKFormerBlock(
                    attention[stage],
                    heads[stage],
                    mlp_ratio=mlp_ratio,
                    drop_path=rates.pop(0),
                    membrane_state=membrane_state,
                    name=f"stage{stage + 1}_block{i + 1}",
                    **shared,
                )(x)
            features[f"stage{stage + 1}"] = x
        super().__init__(inputs, features, arguments, dtype, **kwargs)

    @property
    def has_potentials(self):
        return self.residual == "pre_activation"

    def head_neuron(self):
        if self.has_potentials:
            return get_neuron(self.neuron, self.tau, self.surrogate)
        return None


@keras.saving.register_keras_serializable(package="keras_qkformer")
class QKFormerClassifier(SpikingClassifier):
    """A QKFormer backbone, mean over tokens and time, and a linear head.

    It is a `SpikingClassifier`, with the same arguments, input and output, for a
    `QKFormerBackbone`. With the pre-activation residual, one neuron over time follows
    the mean over tokens, because the last features are potentials.

    Example:
    >>> model = QKFormerClassifier.from_preset("qkformer_tiny", time_steps=2)
    >>> model(np.zeros((3, 8, 8, 1), "float32")).shape
    (3, 10)

    Reference:
        [Zhou et al., 2024](https://openreview.net/forum?id=AVd7DpiooC).
    """


register_family(FAMILY, QKFormerBackbone, QKFormerClassifier, PRESETS)
