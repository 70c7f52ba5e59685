"""Limits of image files, checked before anything is decoded.

Decoders can't be interrupted, so the time and memory that a file costs are bounded by
what its headers claim. The same limits hold for training data, for local predictions
and for a served model, which only has a lower limit of pixels. `bounded_bytes` checks
them in microseconds; `bounded_image` in a graph, where there is no Python.
"""

import re

import tensorflow as tf

KINDS = ("JPEG", "PNG", "BMP", "WebP", "GIF")
"""Kinds of image files that can be decoded."""
LARGEST_IMAGE = 1 << 28
"""Bytes of an image file, or of an entry of a zip once inflated; larger are damaged."""
MAX_PIXELS = 100_000_000
"""Above the largest images of ImageNet (38 million) and of today's cameras."""
MAX_SCANS = 32
"""Scans of a JPEG, each a pass over all pixels. Encoders write up to 10 for colour and
18 for CMYK. Those of a preview inside the file count too."""
MAX_TEXTS = 32
"""Compressed texts of a PNG, each inflated to up to 8 MB. Encoders write one or two."""
MAX_NARROW = 100
"""Largest ratio of the sides. Resizing the shorter side of a narrow image would make
the longer one huge."""
_MAX_GIF_BLOCKS = 20_000  # Of at most 255 bytes, up to the end of the first frame.
_MAX_SEGMENTS = 1000  # Of a JPEG, before its frame header; it has some ten.

EMPTY = "a file of 0 bytes"
ANIMATED = "an animated WebP file, of which no frame can be read"
_MANY_SCANS = f"of more than {MAX_SCANS} scans"
_MANY_TEXTS = f"with more than {MAX_TEXTS} compressed texts"
_SCAN = b"\xff\xda\0"  # Every scan that a decoder takes starts like this.
_TEXTS = (b"zTXt", b"iTXt")
_HEADER = 32  # Bytes that hold the size of a PNG, WebP or BMP image.
_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)


def bounded_bytes(encoded):
    """Return what to decode of an image file that is within the limits.

    Args:
        encoded: bytes of the file.

    Returns:
        bytes: the file, of a GIF only up to its first frame.

    Raises:
        ValueError: if the file is refused. The message is the reason.

    Example:
    >>> bounded_bytes(b"text")
    Traceback (most recent call last):
    ...
    ValueError: not a whole JPEG, PNG, BMP, WebP or GIF file
    """
    if not encoded:
        raise ValueError(EMPTY)
    head = encoded[:_HEADER].ljust(_HEADER, b"\0")
    size, kind = (0, 0), None
    for name, is_it, its_size in _sizes(
        lambda position, text: head.startswith(text, position),
        lambda position, count: int.from_bytes(head[position : position + count]),
        lambda position, count: int.from_bytes(
            head[position : position + count], "little"
        ),
    ):
        if is_it:
            kind, size = name, its_size
    if kind is None:
        raise ValueError(_other(KINDS))
    if kind == "WebP" and _is_animated(head):
        raise ValueError(ANIMATED)
    if kind == "JPEG":
        size = _jpeg_size(encoded)
        if encoded.count(_SCAN) > MAX_SCANS:
            raise ValueError(_MANY_SCANS)
    if kind == "PNG" and sum(map(encoded.count, _TEXTS)) > MAX_TEXTS:
        raise ValueError(_MANY_TEXTS)
    if kind == "GIF":
        size, encoded = _first_frame(encoded)
    height, width = size
    if min(size) <= 0:
        raise ValueError("damaged")
    if height * width > MAX_PIXELS:
        raise ValueError(f"of {width}x{height} pixels, more than {MAX_PIXELS}")
    if max(size) > MAX_NARROW * min(size):
        raise ValueError(f"of {width}x{height} pixels, narrower than 1 to {MAX_NARROW}")
    return encoded


def _other(kinds):
    return f"not a whole {', '.join(kinds[:-1])} or {kinds[-1]} file"


def _sizes(is_at, big, little):
    """Yield `(kind, is it of this kind, (height, width))`, for numbers or tensors.

    Args:
        is_at: function `(position, text)`: whether the file has this text there.
        big: function `(position, count)`: a number of so many bytes, the highest first.
        little: the same with the highest byte last.
    """
    is_webp = is_at(0, b"RIFF") & is_at(8, b"WEBP")
    lossy = is_at(12, b"VP8 ") & is_at(23, b"\x9d\x01\x2a")
    lossless = is_at(12, b"VP8L") & is_at(20, b"\x2f")
    bits, rows = little(21, 4), little(22, 4)
    # A negative number of rows says that the upper one comes first.
    rows = (rows + 2**31) % 2**32 - 2**31
    yield "JPEG", is_at(0, b"\xff\xd8\xff"), (0, 0)
    yield "GIF", is_at(0, b"GIF8"), (0, 0)
    is_png = is_at(0, b"\x89PNG\r\n\x1a\n") & is_at(12, b"IHDR")
    yield "PNG", is_png, (big(20, 4), big(16, 4))
    yield "BMP", is_at(0, b"BM"), (abs(rows), little(18, 4))
    size = little(28, 2) % 2**14, little(26, 2) % 2**14
    yield "WebP", is_webp & lossy, size
    size = bits // 2**14 % 2**14 + 1, bits % 2**14 + 1
    yield "WebP", is_webp & lossless, size
    size = little(27, 3) + 1, little(24, 3) + 1
    yield "WebP", is_webp & is_at(12, b"VP8X"), size


def _is_animated(head):
    """Return whether the header of a WebP, as bytes or numbers, tells of frames.

    A small file may hold many, which would need much memory, and TensorFlow 2.21 writes
    out of bounds when it decodes them.
    """
    return (head[15] == ord("X")) & (head[20] // 2 % 2 == 1)


def _jpeg_size(encoded):
    """Return height and width from the frame header of a JPEG, 0 without one."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        # Skips bytes that are no marker, and fill bytes, as decoders do.
        marker = _MARKER.search(encoded, position)
        if marker is None:
            break
        kind, position = marker[1][0], marker.end()
        if kind == 0x01 or kind // 8 == 0xD0 // 8:
            continue  # No length follows.
        if kind // 16 == 0xC and kind not in (0xC4, 0xC8, 0xCC):
            sides = encoded[position + 3 : position + 7]
            return int.from_bytes(sides[:2]), int.from_bytes(sides[2:])
        if kind < 0xC0 or kind in (0xD8, 0xD9, 0xDA):
            break  # Starts or ends an image, or starts its data.
        position += max(2, int.from_bytes(encoded[position : position + 2]))
    return 0, 0


def _first_frame(encoded):
    """Return the size of a GIF, and the file up to the end of its first frame.

    TensorFlow decodes all frames, even if it returns only the first. The size is that
    of the screen or of the frame, whichever is larger, and 0 if the frame is not whole.
    """
    steps = iter(range(_MAX_GIF_BLOCKS))

    def two(position):
        return encoded[position] + 256 * encoded[position + 1]

    def table(flags):
        return 3 * 2 ** (flags % 8 + 1) if flags >= 128 else 0

    def end_of_blocks(position):
        for _ in steps:
            length = encoded[position]
            position += length + 1
            if not length:
                return position
        raise IndexError

    try:
        position = 13 + table(encoded[10])
        while encoded[position] == 0x21:  # An extension.
            position = end_of_blocks(position + 2)
        if encoded[position] != 0x2C:
            raise IndexError
        height = max(two(8), two(position + 7))
        width = max(two(6), two(position + 5))
        end = end_of_blocks(position + 11 + table(encoded[position + 9]))
    except IndexError:
        return (0, 0), encoded
    return (height, width), encoded[:end] + b";"


def bounded_image(encoded, max_pixels=MAX_PIXELS, kinds=KINDS):
    """Return why an image file is refused, and what to decode, in a graph.

    Args:
        encoded: string tensor `()`. The file's bytes.
        max_pixels: int > 0. Larger images are refused.
        kinds: tuple of the `KINDS` that are not refused.

    Returns:
        `(fault, encoded)`. `fault`, string `()`, is empty for a file that may be
        decoded. `encoded` is then the file, of a GIF only up to its first frame.

    Example:
    >>> png = tf.io.encode_png(tf.zeros((200, 300, 1), "uint8"))
    >>> bounded_image(png, 100 * 100)[0].numpy()
    b'of 300x200 pixels, more than 10000'
    """
    start = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER), "\0" * _HEADER])
    start = tf.strings.substr(start, 0, _HEADER)
    head = tf.ensure_shape(tf.io.decode_raw(start, tf.uint8), (_HEADER,))
    head = tf.cast(head, tf.int64)

    def little(position, count):
        powers = [256**i for i in range(count)]
        return tf.reduce_sum(head[position : position + count] * powers)

    def big(position, count):
        powers = [256**i for i in range(count)][::-1]
        return tf.reduce_sum(head[position : position + count] * powers)

    def is_at(position, text):
        return tf.strings.substr(start, position, len(text)) == text

    is_of = dict.fromkeys(kinds, tf.constant(False))
    size = tf.zeros((2,), tf.int64)
    for kind, is_it, its_size in _sizes(is_at, big, little):
        if kind in kinds:
            is_of[kind] |= is_it
            size = tf.where(is_it, tf.cast(tf.stack(its_size), tf.int64), size)
    size = tf.cond(
        is_of["JPEG"],
        lambda: _jpeg_size_in_graph(encoded),
        lambda: size,
    )
    if "GIF" in kinds:
        size, encoded = tf.cond(
            is_of["GIF"],
            lambda: _first_frame_in_graph(encoded),
            lambda: (size, encoded),
        )
    fault = _fault_of_size(size, max_pixels)
    many_scans = _occurrences(encoded, [_SCAN], MAX_SCANS) > MAX_SCANS
    fault = tf.where(is_of["JPEG"] & many_scans, _MANY_SCANS, fault)
    many_texts = _occurrences(encoded, _TEXTS, MAX_TEXTS) > MAX_TEXTS
    fault = tf.where(is_of["PNG"] & many_texts, _MANY_TEXTS, fault)
    fault = tf.where(is_of["WebP"] & _is_animated(head), ANIMATED, fault)
    known = tf.reduce_any(tf.stack(list(is_of.values())))
    fault = tf.where(known, fault, _other(kinds))
    return tf.where(encoded == b"", EMPTY, fault), encoded


def _occurrences(encoded, texts, most):
    """Return how often these texts occur, counting each up to `most` + 1 times."""
    counts = []
    for text in texts:
        parts = tf.raw_ops.StringSplitV2(input=[encoded], sep=text, maxsplit=most + 1)
        counts.append(tf.size(parts.values) - 1)
    return tf.add_n(counts)


def _fault_of_size(size, max_pixels):
    height, width = tf.unstack(size)
    fits = (height <= max_pixels) & (width <= max_pixels)
    fits &= tf.minimum(height, max_pixels) * tf.minimum(width, max_pixels) <= max_pixels
    told = tf.strings.as_string(tf.stack([width, height]))
    told = tf.strings.join(["of ", told[0], "x", told[1], " pixels, "])
    narrow = tf.maximum(height, width) > MAX_NARROW * tf.minimum(height, width)
    fault = tf.where(narrow, told + f"narrower than 1 to {MAX_NARROW}", "")
    fault = tf.where(fits, fault, told + f"more than {max_pixels}")
    return tf.where((height > 0) & (width > 0), fault, "damaged")


def _jpeg_size_in_graph(encoded):
    """Return what `_jpeg_size` does, by a loop with one step per segment.

    `tf.io.extract_jpeg_shape` would raise for a damaged file, and so end a pipeline.
    """
    length = tf.strings.length(encoded)

    def step(position, size, going):
        text = tf.strings.substr(encoded, position, 9)
        b = tf.cast(tf.io.decode_raw(text, tf.uint8), tf.int32)
        kind = b[1]
        is_marker = (b[0] == 0xFF) & (kind != 0) & (kind != 0xFF)
        is_bare = (kind == 0x01) | (kind // 8 == 0xD0 // 8)  # No length follows.
        is_frame = (kind // 16 == 0xC) & tf.reduce_all(kind != [0xC4, 0xC8, 0xCC])
        # Starts or ends an image, or starts its data.
        is_end = ~is_bare & ((kind < 0xC0) | tf.reduce_any(kind == [0xD8, 0xD9, 0xDA]))
        sides = tf.stack([b[5] * 256 + b[6], b[7] * 256 + b[8]])
        size = tf.where(is_marker & is_frame, sides, size)
        jump = tf.where(is_bare, 2, 2 + tf.maximum(2, b[2] * 256 + b[3]))
        going = ~(is_marker & (is_frame | is_end))
        return position + tf.where(is_marker, jump, 1), size, going

    _, size, _ = tf.while_loop(
        lambda position, size, going: going & (position + 9 <= length),
        step,
        (2, tf.zeros((2,), tf.int32), True),
        maximum_iterations=_MAX_SEGMENTS,
    )
    return tf.cast(size, tf.int64)


def _first_frame_in_graph(encoded):
    """Return what `_first_frame` does, by a loop with one step per block."""
    raw = tf.io.decode_raw(tf.strings.join([encoded, "\0" * _HEADER]), tf.uint8)
    length = tf.strings.length(encoded)

    def byte(position):
        return tf.cast(raw[position], tf.int32)

    def two(position):
        return byte(position) + 256 * byte(position + 1)

    def table(flags):
        return tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)

    between, in_extension, in_frame, end, damaged = range(5)

    def step(position, place, size):
        kind = byte(position)
        starts_frame = (place == between) & (kind == 0x2C)
        starts_extension = (place == between) & (kind == 0x21)
        frame = tf.stack([two(position + 7), two(position + 5)])
        size = tf.where(starts_frame, tf.maximum(size, frame), size)
        jump = tf.where(starts_extension, 2, kind + 1)
        jump = tf.where(starts_frame, 11 + table(byte(position + 9)), jump)
        after = tf.where(place == in_frame, end, between)
        after = tf.where(kind == 0, after, place)
        after = tf.where(place == between, damaged, after)
        after = tf.where(starts_extension, in_extension, after)
        return position + jump, tf.where(starts_frame, in_frame, after), size

    position, place, size = tf.while_loop(
        lambda position, place, size: (place < end) & (position < length),
        step,
        (13 + table(byte(10)), between, tf.stack([two(8), two(6)])),
        maximum_iterations=_MAX_GIF_BLOCKS,
    )
    is_whole = (place == end) & (position <= length)
    size = tf.cast(tf.where(is_whole, size, 0), tf.int64)
    return size, tf.strings.join([tf.strings.substr(encoded, 0, position), ";"])
