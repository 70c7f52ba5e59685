"""Small image files of every kind, in the layouts that the sources read."""

import io
import zipfile

import numpy as np
import tensorflow as tf

CLASSES = ("cat", "dog")
COLOURS = {"zebra": (200, 40, 90), "ant": (30, 160, 220), "mole": (120, 230, 10)}
"""One colour per class, which tells the label of a picture; names are not sorted."""
DAMAGED_PNG = b"\x89PNG\r\n\x1a\nhalf"


def picture(number, size=(40, 56)):
    """A smooth image (height, width, 3) that is different for every number."""
    row, column = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(row / 9 + number + k) + np.cos(column / 7 - k) for k in range(3)]
    return (127 + 60 * np.stack(waves, -1)).clip(0, 255).astype("uint8")


def jpeg(number, size=(40, 56)):
    """A picture as JPEG bytes."""
    return tf.io.encode_jpeg(picture(number, size), quality=95).numpy()


def make_folder(root, counts=(("train", 6), ("test", 2)), vary=True):
    """`<root>/<split>/<class>/<number>.jpg`; every image has its own size if `vary`."""
    number = 0
    for split, count in counts:
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for place in range(count):
                size = (40 + 3 * place, 56 - 2 * place) if vary else (16, 16)
                (folder / f"{place}.jpg").write_bytes(jpeg(number, size))
                number += 1
    return root


def zip_folder(root):
    """The folder as a zip beside it."""
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root))
    return path


def make_records(root, split, count, prefix="", vary=False):
    """`count` examples in two TFRecord files, of many sizes if `vary`; `labels.txt`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    names = ("image/encoded", "image/class/label") if prefix else ("image", "label")
    for shard in range(2):
        path = f"{root}/{split}-{shard:05d}-of-00002"
        with tf.io.TFRecordWriter(path) as writer:
            for number in range(shard, count, 2):
                size = (40 + 3 * number * vary, 56)
                _write_record(writer, names, jpeg(number, size), number % 2)
    return root


def _write_record(writer, names, encoded, label):
    features = {
        names[0]: tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
        names[1]: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    writer.write(example.SerializeToString())


def colour_png(name, size):
    """A picture of one colour, exactly that of its class, as PNG bytes."""
    return tf.io.encode_png(np.full((*size, 3), COLOURS[name], "uint8")).numpy()


def colour_examples(count, damaged=(), vary=True):
    """List of (name of the class, PNG bytes), the classes in turn.

    Args:
        count: int.
        damaged: numbers of the examples that can't be decoded.
        vary: bool. Whether every picture has its own size.
    """
    names = list(COLOURS)
    return [
        (
            name := names[number % 3],
            DAMAGED_PNG
            if number in damaged
            else colour_png(name, (20 + number * vary, 24 - number % 5 * vary)),
        )
        for number in range(count)
    ]


def write_colour_folder(root, split, examples):
    """`<root>/<split>/<class>/<number>.png` of `colour_examples`."""
    for number, (name, encoded) in enumerate(examples):
        path = root / split / name / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
    return root


def write_colour_records(root, split, examples):
    """One TFRecord file of `colour_examples`, and `labels.txt`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "labels.txt").write_text("".join(f"{name}\n" for name in COLOURS))
    names = list(COLOURS)
    with tf.io.TFRecordWriter(f"{root}/{split}-00000-of-00001") as writer:
        for name, encoded in examples:
            _write_record(writer, ("image", "label"), encoded, names.index(name))
    return root


def encode(image, kind, **options):
    """Bytes of a Pillow image."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
