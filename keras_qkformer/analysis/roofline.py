"""The least time that a machine allows for arithmetic and memory traffic."""


def least_seconds(macs, size, macs_per_s, bytes_per_s):
    """Return the least seconds, and the limit: `"arithmetic"` or `"bytes"`.

        least = max(MACs / macs_per_s, bytes / bytes_per_s)

    Args:
        macs: int >= 0. Multiply-accumulates.
        size: int >= 0. Bytes that are read and written.
        macs_per_s: float > 0. Rate of the machine, as of a large matrix product.
        bytes_per_s: float > 0. Rate of a large copy, bytes read and written.

    Example:
    >>> least_seconds(2000, 100, macs_per_s=1e3, bytes_per_s=1e2)
    (2.0, 'arithmetic')
    """
    by_macs, by_bytes = macs / macs_per_s, size / bytes_per_s
    return max(by_macs, by_bytes), "arithmetic" if by_macs >= by_bytes else "bytes"
