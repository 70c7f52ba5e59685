"""Image files inside a graph: every kind, what is refused, and damaged ones."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf

from keras_qkformer.data.images.image_decoding import read_image
from keras_qkformer.data.images.image_limits import ANIMATED, EMPTY
from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.serving.image_bytes import decode_images

pytestmark = pytest.mark.backend_independent
Image = pytest.importorskip("PIL.Image", reason="makes the files")

MOST = 10_000
PREPROCESSING = Preprocessing((16, 12), [0.4], [0.3])


def encoded(mode="RGB", format="PNG", size=(30, 20), **options):
    """The bytes of an image file with random pixels."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], bands), "uint8")
    image = Image.fromarray(pixels.squeeze()) if bands < 4 else None
    if image is None or image.mode != mode:
        image = Image.merge(
            mode, [Image.fromarray(pixels[..., i]) for i in range(bands)]
        )
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png(width, height, bits=8, colour=2, data=b""):
    """A PNG file that claims a size; the checksum of its header is right."""

    def chunk(kind, content):
        body = kind + content
        return (
            struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def jpeg(width, height):
    """A JPEG file whose header claims a size."""
    whole = bytearray(encoded(format="JPEG"))
    frame = whole.index(b"\xff\xc0")
    whole[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


def animation(format):
    frames = [Image.new("RGB", (30, 20), (i, 0, 0)) for i in (0, 90, 180)]
    file = io.BytesIO()
    frames[0].save(file, format, save_all=True, append_images=frames[1:])
    return file.getvalue()


@pytest.fixture(scope="module", params=(1, 3), ids=("grey", "colour"))
def decode(request):
    """`(channels, function)` of a list of files to images and reasons."""
    channels = request.param
    function = tf.function(
        lambda files: decode_images(
            files,
            channels,
            PREPROCESSING,
            (*PREPROCESSING.image_size, channels),
            MOST,
        ),
        input_signature=[tf.TensorSpec((None,), "string")],
    ).get_concrete_function()

    def run(files):
        images, reasons = function(tf.constant(files, tf.string))
        return images.numpy(), [reason.decode() for reason in reasons.numpy()]

    return channels, run


GOOD = {
    "grey JPEG": ("L", "JPEG", {}),
    "colour JPEG": ("RGB", "JPEG", {}),
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True}),
    "CMYK JPEG": ("CMYK", "JPEG", {}),
    "JPEG with a long comment": ("RGB", "JPEG", {"comment": b"c" * 60_000}),
    "grey PNG": ("L", "PNG", {}),
    "transparent grey PNG": ("LA", "PNG", {}),
    "colour PNG": ("RGB", "PNG", {}),
    "transparent PNG": ("RGBA", "PNG", {}),
    "WebP": ("RGB", "WEBP", {}),
    "transparent WebP": ("RGBA", "WEBP", {}),
    "lossless WebP": ("RGB", "WEBP", {"lossless": True}),
    "lossless transparent WebP": ("RGBA", "WEBP", {"lossless": True}),
}


def test_every_kind_is_read_as_from_a_file(decode, tmp_path):
    channels, run = decode
    deep = np.random.default_rng(0).integers(0, 2**16, (20, 30), "uint16")
    files = [encoded(mode, kind, **options) for mode, kind, options in GOOD.values()]
    files.append(png(30, 20, 16, 0, b"".join(b"\0" + row.tobytes() for row in deep)))
    images, reasons = run(files)
    for name, file, image, reason in zip(
        (*GOOD, "16-bit PNG"), files, images, reasons, strict=True
    ):
        assert reason == "", name
        (tmp_path / "file").write_bytes(file)
        expected = PREPROCESSING(read_image(tmp_path / "file", channels))
        np.testing.assert_array_equal(image, expected, err_msg=name)


OTHER = "not a whole JPEG, PNG or WebP file"
BAD = {
    "nothing": (b"", EMPTY),
    "text": (b"text named .jpg", OTHER),
    "zeros": (bytes(5000), OTHER),
    "GIF": (lambda: animation("GIF"), OTHER),
    "animated WebP": (lambda: animation("WEBP"), ANIMATED),
    "JPEG cut off": (lambda: encoded(format="JPEG")[:-300], "damaged"),
    "JPEG without frame": (b"\xff\xd8\xff\xd9" + bytes(50), "damaged"),
    "JPEG of one segment": (b"\xff\xd8\xff\xe0\0\0" + bytes(50), "damaged"),
    "PNG cut off": (lambda: encoded()[:-300], "damaged"),
    "JPEG of fill bytes": (b"\xff\xd8" + b"\xff" * 10**6, "damaged"),
    "JPEG of many scans": (
        lambda: encoded(format="JPEG", progressive=True) + b"\xff\xda\0" * 30,
        "of more than 32 scans",
    ),
    "PNG of size 0": (png(0, 5), "damaged"),
    "huge PNG": (
        png(2**31 - 1, 2**31 - 1),
        f"of 2147483647x2147483647 pixels, more than {MOST}",
    ),
    "long PNG": (png(1, 10_001), f"of 1x10001 pixels, more than {MOST}"),
    "narrow PNG": (png(2, 202), "of 2x202 pixels, narrower than 1 to 100"),
    "huge JPEG": (
        lambda: jpeg(65_535, 65_535),
        f"of 65535x65535 pixels, more than {MOST}",
    ),
    "huge WebP": (
        b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\xff\xff\xff\x0f" + bytes(9),
        f"of 16384x16384 pixels, more than {MOST}",
    ),
    "huge canvas": (
        b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff" + bytes(9),
        f"of 16777216x16777216 pixels, more than {MOST}",
    ),
}


def test_bad_files_have_a_reason_and_good_neighbours_their_image(decode):
    _, run = decode
    good = encoded(format="JPEG")
    ((expected,), _) = run([good])
    files, wanted = [good], [""]
    for file, reason in BAD.values():
        files += [file() if callable(file) else file, good]
        wanted += [reason, ""]
    images, reasons = run(files)
    assert reasons == wanted
    for image, reason in zip(images, reasons, strict=True):
        np.testing.assert_array_equal(image, 0 * expected if reason else expected)


def test_an_image_of_the_most_pixels_is_read(decode):
    _, run = decode
    assert run([encoded(size=(100, 100)), encoded(size=(100, 101))])[1] == [
        "",
        f"of 100x101 pixels, more than {MOST}",
    ]


def test_a_batch_without_images_stays_one(decode):
    images, reasons = decode[1]([])
    assert images.shape == (0, 16, 12, decode[0])
    assert reasons == []
