"""Decode RAW files of Prophesee word by word: slow, and sharing no code with ours.

Each function takes the bytes of the words and yields `(t, x, y, p, end)` of each event,
`end` the byte behind its word; it stops at the first word of an unknown kind.
"""

import struct


def evt2(body):
    """EVT 2.0, 32-bit words."""
    high = base = 0
    is_known = False
    for at in range(0, len(body) - 3, 4):
        (word,) = struct.unpack_from("<I", body, at)
        kind = word >> 28
        if kind == 8:
            value = word & 0xFFFFFFF
            if value - high < -(1 << 27):
                base += 1 << 28
            high, is_known = value, True
        elif kind < 2:
            if is_known:
                t = (base + high << 6) + (word >> 22 & 63)
                yield t, word >> 11 & 2047, word & 2047, kind == 1, at + 4
        elif kind not in (10, 14, 15):
            return


def evt3(body):
    """EVT 3.0, 16-bit words."""
    high = base = low = 0
    is_known = False
    row = column = polarity = None
    for at in range(0, len(body) - 1, 2):
        (word,) = struct.unpack_from("<H", body, at)
        kind, value = word >> 12, word & 0xFFF
        if kind == 8:
            if value != high or not is_known:
                low = 0
            if value - high < -2048:
                base += 4096
            high, is_known = value, True
        elif kind == 6:
            low = value
        elif kind == 0:
            row = value & 2047
        elif kind == 2:
            if is_known and row is not None:
                t = (base + high) * 4096 + low
                yield t, value & 2047, row, value >= 2048, at + 2
        elif kind == 3:
            column, polarity = value & 2047, value >= 2048
        elif kind in (4, 5):
            size = 12 if kind == 4 else 8
            if column is None:
                continue
            for bit in range(size):
                if value >> bit & 1 and is_known and row is not None:
                    t = (base + high) * 4096 + low
                    yield t, column + bit, row, polarity, at + 2
            column += size
        elif kind not in (7, 10, 14, 15):
            return


def evt21(body, order="little"):
    """EVT 2.1, 64-bit words whose halves have this order."""
    high = base = 0
    is_known = False
    for at in range(0, len(body) - 7, 8):
        lower, upper = struct.unpack_from("<2I", body, at)
        if order == "legacy":
            lower, upper = upper, lower
        kind = upper >> 28
        if kind == 8:
            value = upper & 0xFFFFFFF
            if value - high < -(1 << 27):
                base += 1 << 28
            high, is_known = value, True
        elif kind < 2:
            for bit in range(32):
                if lower >> bit & 1 and is_known:
                    t = (base + high << 6) + (upper >> 22 & 63)
                    x = (upper >> 11 & 2047) + bit
                    yield t, x, upper & 2047, kind == 1, at + 8
        elif kind not in (10, 14, 15):
            return
