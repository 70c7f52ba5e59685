"""Pictures of the report as PNG files in data URIs, written with zlib alone."""

import base64
import struct
import zlib

import numpy as np

LIME = (166, 226, 20)
"""What is laid over pictures: neither of the two colours of events, nor a grey."""


def colour_uri(colours):
    """Return a picture as a data URI.

    Args:
        colours: array `(height, width, 3)` from 0 to 1.

    Returns:
        str.
    """
    return _uri(np.round(colours * 255).astype("u1"), 2)


def veil_uri(values, colour=LIME, opacity=0.8):
    """Return values as a veil of one colour, the denser the larger they are.

    Args:
        values: array `(height, width)` in [0, 1].
        colour: (red, green, blue), each from 0 to 255.
        opacity: float in (0, 1]. Opacity of a value of 1.

    Returns:
        str, a data URI.
    """
    indices = np.round(np.clip(values, 0, 1) * 255).astype("u1")
    # Only the colours in use: most veils are masks of two.
    used, indices = np.unique(indices, return_inverse=True)
    alphas = np.round(used * opacity).astype("u1")
    palette = _chunk(b"PLTE", bytes(colour) * len(used)) + _chunk(
        b"tRNS", alphas.tobytes()
    )
    return _uri(indices.reshape(values.shape).astype("u1"), 3, palette)


def _uri(pixels, colour_type, palette=b""):
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), "u1")  # Each starts with filter 0.
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + palette
        + _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + _chunk(b"IEND", b"")
    )
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _chunk(kind, data):
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
