"""Numbers and names as the report writes them."""

from keras_qkformer.printable import printable

NOTHING = "\u2013"
"""Stands for a number that is not known."""
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def amount(value):
    r"""Return a number with three digits and a prefix: `21.8 M`.

    Args:
        value: float or `None`.

    Example:
    >>> amount(21_777_664), amount(950.0), amount(0.0321)
    ('21.8 M', '950', '0.0321')
    """
    if value is None:
        return NOTHING
    for size, prefix in _PREFIXES:
        if abs(value) >= 0.9995 * size:
            return f"{plain(value / size)} {prefix}"
    return plain(value)


def plain(value):
    """Return a number with at least three digits, without an exponent if it can be.

    Args:
        value: float or `None`.

    Example:
    >>> plain(7.463502602), plain(12345.6), plain(0.00012), plain(4)
    ('7.46', '12,346', '0.000120', '4')
    """
    if value is None:
        return NOTHING
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = f"{value:.3g}"
    return digits if "e" in digits else f"{value:#.3g}".rstrip(".")


def percent(value, digits=1):
    r"""Return a fraction as a percentage.

    Args:
        value: float or `None`.
        digits: int. Decimals.

    Example:
    >>> percent(0.9972), percent(0.5, digits=0)
    ('99.7 %', '50 %')
    """
    return NOTHING if value is None else f"{100 * value:.{digits}f} %"


def name(text, limit=80):
    r"""Return a name from outside as one bounded line.

    Args:
        text: str, or what `str` turns into one.
        limit: int. Of a longer text, only so many characters, and an ellipsis.

    Example:
    >>> name("cat"), ascii(name("a cat that\nis long", limit=5))
    ('cat', "'a cat\\u2026'")
    """
    text = str(text)
    return printable(text[:limit], limit) + "\u2026" * (len(text) > limit)


def layer(path):
    r"""Return the path of a layer as words that a line can break between.

    Args:
        path: str such as `"stage1_block1/attention/query"`.

    Example:
    >>> ascii(layer("stage1_block1/attention/query"))
    "'stage1 block1 \\u203a attention \\u203a query'"
    """
    return name(path, 200).replace("_", " ").replace("/", " \u203a ")


def size(sides):
    """Return the sides of an array as one would say them.

    Args:
        sides: iterable of int.
    """
    return " \u00d7 ".join(map(str, sides))
