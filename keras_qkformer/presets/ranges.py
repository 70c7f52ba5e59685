"""Rules for the arguments of models that several families share, without Keras.

The `check_ranges` of each family is called by its backbone, and by the command line
before Keras loads.
"""

from types import SimpleNamespace

from keras_qkformer.presets.arguments import check

NEURONS = ("if", "lif", "plif")
SURROGATES = ("atan", "piecewise_quadratic", "sigmoid", "soft_sign")
"""Those of this package: a module of the user's may register more."""
DOWNSAMPLINGS = {"spikes": "spikes", "cml": "potentials"}
UNITS = 4
"""Number of units of a stem that may halve the map, in families of one stage."""


def pair(image_size):
    """Return the height and width of an image size.

    Args:
        image_size: int, for both, or (height, width).
    """
    return (image_size,) * 2 if isinstance(image_size, int) else tuple(image_size)


def check_input(image_size, in_channels, time_steps):
    """Raise `ValueError` unless there is an input of these sizes.

    Args:
        image_size: int or (height, width), in pixels.
        in_channels: int.
        time_steps: int.
    """
    image_size = pair(image_size)
    check(
        len(image_size) == 2 and min(image_size) > 0,
        "image_size must be above 0, or a height and a width above 0",
        image_size=image_size,
    )
    check(in_channels > 0, "in_channels must be above 0", in_channels=in_channels)
    check(
        isinstance(time_steps, int) and time_steps > 0,
        "time_steps must be a whole number above 0",
        time_steps=time_steps,
    )


def check_sides(image_size, multiple):
    """Raise `ValueError` unless a stem can halve an image as often as it does.

    Args:
        image_size: int or (height, width), in pixels.
        multiple: int > 0. Of which both must be multiples.
    """
    height, width = pair(image_size)
    check(
        not (height % multiple or width % multiple),
        f"Height and width must be multiples of {multiple}",
        height=height,
        width=width,
    )


def check_neuron(neuron, tau):
    """Raise `ValueError` unless a neuron is known and has such a time constant.

    Args:
        neuron: str.
        tau: float, or `None` for the default.
    """
    check(neuron in NEURONS, f"neuron must be one of {[*NEURONS]}", neuron=neuron)
    check(tau is None or neuron != "if", "neuron='if' has no tau", tau=tau)
    check(tau is None or tau > 1, "tau must be greater than 1 (time steps)", tau=tau)


def check_surrogate(surrogate):
    """Raise `ValueError` unless a surrogate is one of this package.

    Args:
        surrogate: str.
    """
    names = [*SURROGATES]
    check(surrogate in names, f"surrogate must be one of {names}", surrogate=surrogate)


def check_depths(depths, drop_path):
    """Raise `ValueError` unless there are blocks, and not too many.

    Args:
        depths: tuple of int, number of blocks in each stage.
        drop_path: float.
    """
    check(
        min(depths, default=0) > 0 and sum(depths) <= 1000,
        "depths must have a whole number above 0 for each stage, up to 1,000 together",
        depths=depths,
    )
    check(0 <= drop_path < 1, "drop_path must be in [0, 1)", drop_path=drop_path)


def check_hidden(mlp_ratio, width):
    """Raise `ValueError` unless an MLP has a whole number of hidden channels.

    Args:
        mlp_ratio: float.
        width: int > 0. Number of channels.
    """
    check(0 < mlp_ratio <= 64, "mlp_ratio must be in (0, 64]", mlp_ratio=mlp_ratio)
    hidden = width * mlp_ratio
    check(
        hidden >= 1 and hidden == int(hidden),
        "mlp_ratio times the number of channels must be a whole number above 0",
        mlp_ratio=mlp_ratio,
        channels=width,
    )


def check_width(embed_dim, multiple, because=""):
    """Raise `ValueError` unless a width can be divided as a model does.

    Args:
        embed_dim: int. Number of channels.
        multiple: int > 0.
        because: str. What to say of the multiple.
    """
    check(
        embed_dim > 0 and embed_dim % multiple == 0,
        f"embed_dim must be a multiple of {multiple}{because}",
        embed_dim=embed_dim,
    )
    # More would run out of memory or of patience, rather than be refused.
    check(embed_dim <= 8192, "embed_dim must not exceed 8192", embed_dim=embed_dim)


def check_heads(num_heads, width, of=""):
    """Raise `ValueError` unless the channels can be shared out among heads.

    Args:
        num_heads: int.
        width: int > 0. Number of channels.
        of: str. What to say of the channels.
    """
    check(
        num_heads > 0 and width % num_heads == 0,
        f"num_heads must divide the {width} channels{of}",
        num_heads=num_heads,
    )


def check_chain(arguments):
    """Raise `ValueError` unless there is such a backbone of a stem and equal blocks.

    Args:
        arguments: dict of all its arguments.
    """
    a = SimpleNamespace(**{"downsampling": "spikes", **arguments})
    check(a.depth > 0, "depth must be above 0", depth=a.depth)
    check_depths((a.depth,), a.drop_path)
    check_width(a.embed_dim, 8)  # The stem starts with an eighth of the channels.
    check_heads(a.num_heads, a.embed_dim)
    check_hidden(a.mlp_ratio, a.embed_dim)
    possible = [2**i for i in range(UNITS + 1)]
    check(
        a.reduction in possible,
        f"reduction must be one of {possible}",
        reduction=a.reduction,
    )
    check(
        a.downsampling in DOWNSAMPLINGS,
        f"downsampling must be one of {sorted(DOWNSAMPLINGS)}",
        downsampling=a.downsampling,
    )
    check_input(a.image_size, a.in_channels, a.time_steps)
    check_sides(a.image_size, a.reduction)
    check_neuron(a.neuron, a.tau)


def file_kind(static, in_channels):
    """Return which files a model takes, or `None` if there are none of its inputs.

    Args:
        static: bool. Whether the model takes images instead of event frames.
        in_channels: int > 0.

    Returns:
        `"images"`, `"recordings"` or `None`.
    """
    if static:
        return "images" if in_channels in (1, 3) else None
    return "recordings" if in_channels == 2 else None


def check_head(num_classes, dropout):
    """Raise `ValueError` unless a classifier can have such a head.

    Args:
        num_classes: int, or `None` for no head.
        dropout: float.
    """
    check(
        num_classes is None or num_classes > 0,
        "num_classes must be above 0, or None for no head",
        num_classes=num_classes,
    )
    check(0 <= dropout < 1, "dropout must be in [0, 1)", dropout=dropout)
