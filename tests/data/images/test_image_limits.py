"""Limits of image files: the same in Python and in a graph, before anything is decoded.

The files are hostile: small, and huge in what a decoder would make of them.
"""

import io
import os
import struct
import time
import zlib

import fuzzing
import numpy as np
import pytest
import tensorflow as tf
from fuzz import images

from keras_qkformer.data.images import image_decoding
from keras_qkformer.data.images.image_decoding import decode, read_image
from keras_qkformer.data.images.image_limits import (
    ANIMATED,
    EMPTY,
    MAX_SCANS,
    MAX_TEXTS,
    bounded_bytes,
    bounded_image,
)
from keras_qkformer.serving.image_bytes import decode_images

pytestmark = pytest.mark.backend_independent
Image = pytest.importorskip("PIL.Image", reason="makes the files")


def saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def noise(size=(30, 20)):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), "uint8")
    return Image.fromarray(pixels)


def repeated_scans(scans):
    """A progressive JPEG whose last scan is repeated, so that it has so many."""
    whole = saved(noise(), "JPEG", progressive=True)
    start = whole.rindex(b"\xff\xc4", 0, whole.rindex(b"\xff\xda\0"))
    more = whole[start:-2] * (scans - whole.count(b"\xff\xda\0"))
    return whole[:-2] + more + b"\xff\xd9"


def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(width, height, *chunks):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(91 * 20))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *chunks,
            chunk(b"IDAT", data),
            chunk(b"IEND", b""),
        ]
    )


def text(kind):
    flags = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0"}[kind]
    return chunk(kind, flags + zlib.compress(bytes(1000)))


def gif(frames=1, screen=(30, 20), frame=(30, 20), extensions=0):
    """A GIF with frames of one colour."""
    image = Image.new("P", frame, 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    whole = saved(image, "GIF")
    start = 13 + 3 * 2 ** (whole[10] % 8 + 1)
    head = whole[:6] + struct.pack("<HH", *screen) + whole[10:start]
    return head + b"!\xfe\1c\0" * extensions + whole[start:-1] * frames + b";"


def bmp(width, height):
    whole = bytearray(saved(noise(), "BMP"))
    whole[18:26] = struct.pack("<ii", width, height)
    return bytes(whole)


def jpeg_of_size(width, height, before=b""):
    whole = bytearray(saved(noise(), "JPEG"))
    frame = whole.index(b"\xff\xc0")
    whole[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(whole[:frame]) + before + bytes(whole[frame:])


GOOD = {
    "most scans": repeated_scans(MAX_SCANS),
    "CMYK": saved(noise().convert("CMYK"), "JPEG", progressive=True),
    "fill bytes": jpeg_of_size(30, 20, b"\xff" * 50),
    "bytes that are no marker": jpeg_of_size(30, 20, b"\0\1\xff\0\2" * 9),
    "restart markers": jpeg_of_size(30, 20, b"\xff\xd0\xff\x01"),
    "a frame header in a comment": jpeg_of_size(
        30, 20, b"\xff\xfe\0\x0b\xff\xc0\0\x11\x08\xff\xff\xff\xff"
    ),
    "most texts": png(30, 20, *[text(b"zTXt"), text(b"iTXt")] * (MAX_TEXTS // 2)),
    "huge colour profile": saved(noise(), "PNG", icc_profile=bytes(9_000_000)),
    "interlaced and animated PNG": saved(
        noise(), "PNG", save_all=True, append_images=[noise()] * 3
    ),
    "GIF": gif(),
    "GIF of many frames": gif(50),
    "GIF with extensions": gif(2, extensions=9),
    "BMP": bmp(30, 20),
    "BMP from above": bmp(30, -20),
}
HUGE = "of 20000x20000 pixels, more than 100000000"
BAD = {
    "nothing": (b"", EMPTY),
    "text": (b"text", "not a whole JPEG, PNG, BMP, WebP or GIF file"),
    "repeated scans": (repeated_scans(MAX_SCANS + 1), "of more than 32 scans"),
    "texts": (
        png(30, 20, text(b"zTXt"), *[text(b"iTXt")] * MAX_TEXTS),
        "with more than 32 compressed texts",
    ),
    "huge PNG": (png(20_000, 20_000), HUGE),
    "huge JPEG": (jpeg_of_size(20_000, 20_000), HUGE),
    "huge BMP": (bmp(20_000, 20_000), HUGE),
    "huge BMP from above": (bmp(20_000, -20_000), HUGE),
    "BMP of the smallest number": (bmp(1, -(2**31)), "of 1x2147483648 pixels, more"),
    "huge GIF": (gif(screen=(20_000, 20_000)), HUGE),
    "narrow PNG": (png(1000, 9), "of 1000x9 pixels, narrower than 1 to 100"),
    "JPEG of size 0": (jpeg_of_size(30, 0), "damaged"),
    "PNG of size 0": (png(0, 20), "damaged"),
    "JPEG without frame": (b"\xff\xd8\xff\xd9" + bytes(50), "damaged"),
    "JPEG of fill bytes": (b"\xff\xd8" + b"\xff" * 10**6, "damaged"),
    "JPEG of comments": (b"\xff\xd8" + b"\xff\xfe\0\2" * 10**6, "damaged"),
    "GIF cut off": (gif()[:-10], "damaged"),
    "GIF of extensions": (gif(extensions=10_001), "damaged"),
    "animated WebP": (
        saved(noise(), "WEBP", save_all=True, append_images=[noise().rotate(180)]),
        ANIMATED,
    ),
}


@pytest.fixture(scope="module")
def in_graph():
    """`bounded_image` of bytes, as it is compiled."""
    function = tf.function(bounded_image).get_concrete_function(
        tf.TensorSpec((), tf.string)
    )
    return lambda file: tuple(x.numpy() for x in function(tf.constant(file)))


def test_good_files_are_decoded_as_they_would_be_without_limits(in_graph):
    for name, file in GOOD.items():
        assert in_graph(file) == (b"", bounded_bytes(file)), name
        if file.startswith(b"\xff\xd8"):
            expected = tf.io.decode_jpeg(file, 3, dct_method="INTEGER_ACCURATE")
        else:
            expected = tf.io.decode_image(file, 3, expand_animations=False)
        assert expected.shape == (20, 30, 3), name
        np.testing.assert_array_equal(decode(file, 3), expected, err_msg=name)


def test_bad_files_are_refused_at_once_in_python_and_in_a_graph(in_graph):
    for name, (file, reason) in BAD.items():
        start = time.process_time()
        with pytest.raises(ValueError) as told:
            bounded_bytes(file)
        assert time.process_time() - start < 0.5, name
        assert str(told.value).startswith(reason), name
        assert in_graph(file)[0].decode() == str(told.value), name


def test_a_gif_is_decoded_up_to_its_first_frame():
    assert bounded_bytes(gif(50)) == gif()
    # More frames than memory has room for; each is 8 kB.
    many = gif(300, (3000, 3000), (3000, 3000))
    start = time.process_time()
    assert decode(many, 1).shape == (3000, 3000, 1)
    assert time.process_time() - start < 3


def test_a_refused_file_is_an_error_that_tells_the_limit(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(BAD["huge PNG"][0])
    with pytest.raises(ValueError, match=rf"must be a whole .*bomb\.png': {HUGE}"):
        read_image(path, 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_orientation_in_exif_is_ignored_from_files_and_by_a_served_model(
    tmp_path, format
):
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees.
    plain, turned = (
        saved(noise(), format, **more) for more in ({}, {"exif": exif.tobytes()})
    )
    assert Image.open(io.BytesIO(turned)).getexif()[0x0112] == 6
    (tmp_path / "turned").write_bytes(turned)
    image = read_image(tmp_path / "turned", 3)
    assert image.shape == (20, 30, 3)
    np.testing.assert_array_equal(image, decode(plain, 3))
    served, reasons = decode_images(
        tf.constant([turned]),
        3,
        lambda x: tf.cast(x, tf.float32),
        (20, 30, 3),
        1000,
    )
    assert reasons.numpy().tolist() == [b""]
    np.testing.assert_array_equal(served[0], image)


def test_mutated_files_end_as_they_should():
    images.files()
    counts = fuzzing.run(images.case, seed=0, least=200)
    assert counts["FAILED"] == 0
    assert min(counts["answered"], counts["refused"]) > 10


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices as on POSIX")
def test_what_is_no_file_or_too_large_is_not_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zeros.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zeros.png"):
        with pytest.raises(ValueError, match=r"can be read.*a pipe or a device"):
            read_image(tmp_path / name, 3)
    monkeypatch.setattr(image_decoding, "LARGEST_IMAGE", 1000)
    (tmp_path / "large.png").write_bytes(bytes(1001))
    with pytest.raises(ValueError, match=r"large\.png': more than 1000 bytes"):
        read_image(tmp_path / "large.png", 3)
