"""How much a file of weights, and a model beside it, may take if others made them."""

LARGEST_GROWTH, SMALL_BYTES = 20, 64 << 20
"""Arrays together may have so many times the bytes of the file, or `SMALL_BYTES`."""
_MOST_DEPTH = 100  # Groups in each other; Keras writes some five.


def most_bytes(stored):
    """Return how many bytes all arrays of a file may have together.

    Args:
        stored: int. Bytes of the file.
    """
    return max(SMALL_BYTES, LARGEST_GROWTH * stored)


def check_unpacked(weights):
    """Raise `ValueError` if arrays of an HDF5 file would take far more than its bytes.

    Compressed, or never written, they take next to nothing in the file, and Keras reads
    an array before it looks at its shape. Groups nested by the thousand would take
    hours: h5py opens each from the top.

    Args:
        weights: seekable binary file object.
    """
    import h5py  # Keras brings it, and needs it for these files alone.

    most, found = most_bytes(weights.seek(0, 2)), 0

    def is_too_much(name, item):
        nonlocal found
        if name.count("/") > _MOST_DEPTH:
            raise ValueError(f"its groups must be nested {_MOST_DEPTH} deep at most")
        if isinstance(item, h5py.Dataset):
            found += item.nbytes
            return found > most or item.dtype.hasobject or None
        return None

    with h5py.File(weights, "r") as file:
        if file.visititems(is_too_much):
            raise ValueError(f"its arrays must be numbers of at most {most:,} bytes")


def check_extent(arguments, stored):
    """Raise `ValueError` for a model far larger than its weights, before it is made.

    Args:
        arguments: dict of all arguments of the model.
        stored: int. Bytes of the file with its weights.
    """

    def numbers(name):
        found = arguments.get(name)
        found = found if isinstance(found, list | tuple) else [found]
        return [n for n in found if isinstance(n, int | float)]

    depths = numbers("depths") or numbers("depth")
    widths, width = numbers("widths"), sum(numbers("embed_dim"))
    if len(widths) < 2:  # Of one stage, or each twice as wide as the one before.
        widths = widths * len(depths) or [
            width / 2**i for i in reversed(range(len(depths)))
        ]
    # Each block has an MLP or a convolution of 3x3, and some have more.
    share = min([1, *(2 * ratio for ratio in numbers("mlp_ratio"))])
    least = sum(widths[-1:]) * sum(numbers("num_classes"))
    for depth, width in zip(depths, widths, strict=False):
        least += depth * share * width**2
    if least > most_bytes(stored):
        raise ValueError(
            "The weights of a model must be those of a whole one. Received: "
            f"{stored:,} bytes for a model of at least {least:,.0f} numbers"
        )
