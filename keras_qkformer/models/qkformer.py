"""QKFormer without its head: an image or event frames in, a feature pyramid out."""

import keras
from keras import ops

from keras_qkformer.layers.lif import get_neuron
from keras_qkformer.layers.patch_embedding import (
    FAMILIES,
    PatchEmbedding,
    family_reduction,
)
from keras_qkformer.layers.qkformer_block import QKFormerBlock
from keras_qkformer.models.backbone import RESIDUALS, check, per_stage


@keras.saving.register_keras_serializable(package="keras_qkformer")
class QKFormerBackbone(keras.Model):
    """Hierarchical spiking transformer: the features of every stage.

    Each stage is a patch embedding, which shrinks the image and widens the channels,
    and blocks of attention and MLP. The last stage has `embed_dim` channels, each one
    before it half of the next.

    Differences from the source: none with the defaults. The authors' stochastic depth
    is never applied in their code; here `drop_path` is, and is 0 by default. See
    `SpikingSelfAttention` for `membrane_state`.

    Args:
        image_size: int or (height, width), in pixels; a multiple of 16 (`"imagenet"`,
            three stages; `"dvs"`, two stages) or 4 (`"cifar"`, three stages).
        in_channels: int. 3 for colour images, 2 for event frames (OFF, ON).
        static: bool. If true, the input is images, shown for `time_steps` steps; if
            not, it has one frame per time step.
        time_steps: int > 0. Simulation steps T.
        family: `"imagenet"`, `"cifar"` or `"dvs"`: which patch embeddings.
        embed_dim: int. Channels of the last stage.
        depths: tuple of int, blocks in each stage; its length is the number of stages.
        num_heads: int or tuple of int, one per stage. Divides the channels of the
            stage.
        mlp_ratio: float. Hidden channels of the MLPs over their input channels.
        attention: tuple of `"token"`, `"channel"` or `"self"`, one per stage. `None`
            for the published mix: `"self"` in the last stage, `"token"` before.
        residual: `"add"` as published, or `"pre_activation"` (MS-QKFormer).
        neuron: `"lif"`, `"if"` or `"plif"`.
        tau: float > 1, or `None` for 2. Membrane time constant, in time steps.
        surrogate: str. Name of the surrogate derivative.
        deformed_shortcut: bool. Whether the patch embeddings have their shortcut.
        drop_path: float in [0, 1). Stochastic depth: the rate of the last block; it
            grows linearly from 0 in the first one.
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
        ValueError: if an argument is out of range or two do not fit together.

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
        image_size,
        in_channels=3,
        static=True,
        time_steps=4,
        family="imagenet",
        embed_dim=384,
        depths=(1, 2, 7),
        num_heads=6,
        mlp_ratio=4,
        attention=None,
        residual="add",
        neuron="lif",
        tau=None,
        surrogate="sigmoid",
        deformed_shortcut=True,
        drop_path=0.0,
        membrane_state="sample",
        dtype=None,
        **kwargs,
    ):
        height, width = (
            (image_size, image_size) if isinstance(image_size, int) else image_size
        )
        depths = tuple(depths)
        stages = len(depths)
        heads = per_stage("num_heads", num_heads, stages)
        if attention is None:
            attention = ("token",) * (stages - 1) + ("self",)
        attention = per_stage("attention", attention, stages)
        check(family in FAMILIES, f"family must be one of {FAMILIES}", family=family)
        check(
            residual in RESIDUALS,
            f"residual must be one of {RESIDUALS}",
            residual=residual,
        )
        check(
            isinstance(time_steps, int) and time_steps > 0,
            "time_steps must be a whole number above 0",
            time_steps=time_steps,
        )
        check(
            min(depths, default=0) > 0,
            "depths must have a whole number above 0 for each stage",
            depths=depths,
        )
        narrowing = 2 ** (stages - 1)
        check(
            embed_dim % narrowing == 0,
            f"embed_dim must be a multiple of {narrowing} with {stages} stages",
            embed_dim=embed_dim,
        )
        for stage, n in enumerate(heads):
            channels = embed_dim // 2 ** (stages - 1 - stage)
            check(
                n > 0 and channels % n == 0,
                f"num_heads must divide the {channels} channels of stage {stage + 1}",
                num_heads=n,
            )
        multiple = family_reduction(family, stem=True) * (
            family_reduction(family, stem=False) ** (stages - 1)
        )
        check(
            height > 0 and width > 0 and not (height % multiple or width % multiple),
            f"image_size must be a multiple of {multiple} in family {family!r} with "
            f"{stages} stages",
            image_size=(height, width),
        )

        shared = {
            "pre_activation": residual == "pre_activation",
            "neuron": get_neuron(neuron, tau, surrogate),
            "dtype": dtype,
        }
        rates = [drop_path * i / max(sum(depths) - 1, 1) for i in range(sum(depths))]
        image_shape = (height, width, in_channels)
        if static:
            inputs = keras.Input(image_shape, name="images")
            x = ops.expand_dims(inputs, 1)
        else:
            inputs = x = keras.Input((time_steps, *image_shape), name="frames")
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
        super().__init__(inputs=inputs, outputs=features, **kwargs)
        self.image_size = (height, width)
        self.in_channels = in_channels
        self.static = static
        self.time_steps = time_steps
        self.family = family
        self.embed_dim = embed_dim
        self.depths = depths
        self.num_heads = heads
        self.mlp_ratio = mlp_ratio
        self.attention = attention
        self.residual = residual
        self.neuron = neuron
        self.tau = tau
        self.surrogate = surrogate
        self.deformed_shortcut = deformed_shortcut
        self.drop_path = drop_path
        self.membrane_state = membrane_state
        self.dtype_policy = keras.dtype_policies.get(dtype)

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "image_size": list(self.image_size),
            "in_channels": self.in_channels,
            "static": self.static,
            "time_steps": self.time_steps,
            "family": self.family,
            "embed_dim": self.embed_dim,
            "depths": list(self.depths),
            "num_heads": list(self.num_heads),
            "mlp_ratio": self.mlp_ratio,
            "attention": list(self.attention),
            "residual": self.residual,
            "neuron": self.neuron,
            "tau": self.tau,
            "surrogate": self.surrogate,
            "deformed_shortcut": self.deformed_shortcut,
            "drop_path": self.drop_path,
            "membrane_state": self.membrane_state,
            "dtype": self.dtype_policy.name,
        }
