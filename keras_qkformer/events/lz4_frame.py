"""Decompress LZ4 frames, as ROS bags hold them, in Python.

Checksums are not compared.
"""

MAGIC = b"\x04\x22\x4d\x18"
_STORED = 1 << 31


def decompress_lz4(data, most_bytes):
    """Decompress one frame.

    Args:
        data: bytes. The frame.
        most_bytes: int. Largest size of its content.

    Returns:
        bytes.

    Raises:
        ValueError: if the frame is damaged or its content is larger.

    Example:
    >>> frame = "04224d18 604082 0a000000 11 61 0100 50 6263646566 00000000"
    >>> decompress_lz4(bytes.fromhex(frame), 100)
    b'aaaaaabcdef'

    Reference:
        "LZ4 Frame Format Description", version 1.6.
    """
    if data[:4] != MAGIC or len(data) < 7 or data[4] >> 6 != 1:
        raise ValueError("no frame of LZ4")
    flags = data[4]
    at = 6 + 8 * (flags >> 3 & 1) + 4 * (flags & 1) + 1
    found = bytearray()
    while True:
        size = int.from_bytes(data[at : at + 4], "little")
        at += 4
        if at > len(data):
            raise ValueError("a frame of LZ4 that was cut")
        if not size:
            return bytes(found)
        block = data[at : at + size % _STORED]
        at += size % _STORED + 4 * (flags >> 4 & 1)
        if at > len(data):
            raise ValueError("a frame of LZ4 that was cut")
        if size >= _STORED:
            found += block
        else:
            _decompress_block(block, found, most_bytes)
        if len(found) > most_bytes:
            raise ValueError(f"more than {most_bytes} bytes")


def _decompress_block(block, found, most_bytes):
    """Append the content of a block to what was found before it."""
    at, end, total = 0, len(block), len(found)
    try:
        while True:
            token = block[at]
            at += 1
            size = token >> 4
            if size == 15:
                size, at = _longer(block, size, at)
            found += block[at : at + size]
            at += size
            total += size
            if at >= end:  # The last sequence has no match.
                break
            distance = block[at] | block[at + 1] << 8
            at += 2
            size = token & 15
            if size == 15:
                size, at = _longer(block, size, at)
            size += 4
            start = total - distance
            total += size
            if not 0 <= start < total - size or total > most_bytes:
                raise IndexError
            if size <= distance:
                found += found[start : start + size]
            else:  # It repeats what it adds itself.
                found += (found[start:] * -(-size // distance))[:size]
        if at > end:
            raise IndexError
    except IndexError as error:
        raise ValueError("a damaged block of LZ4") from error


def _longer(block, size, at):
    """Read on a length, and return it and the place behind."""
    while (more := block[at]) == 255:
        size += 255
        at += 1
    return size + more, at + 1
