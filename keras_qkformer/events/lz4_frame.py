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
    at = 0

    def length(first):
        """A length whose first four bits were read."""
        nonlocal at
        if first < 15:
            return first
        total = 15
        while True:
            total += block[at]
            at += 1
            if block[at - 1] < 255:
                return total

    try:
        while True:
            token = block[at]
            at += 1
            size = length(token >> 4)
            literals = block[at : at + size]
            if len(literals) < size:
                raise IndexError
            found += literals
            at += size
            if at == len(block):  # The last sequence has no match.
                return
            distance = block[at] | block[at + 1] << 8
            at += 2
            size = length(token & 15) + 4
            if not 0 < distance <= len(found) or len(found) + size > most_bytes:
                raise IndexError
            match = bytes(found[-distance:][:size])
            found += (match * -(-size // len(match)))[:size]
    except IndexError as error:
        raise ValueError("a damaged block of LZ4") from error
