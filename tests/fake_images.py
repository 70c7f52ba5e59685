"""Small image files of every kind, in the layouts that the sources read."""

import io
import zipfile

import numpy as np
import tensorflow as tf

CLASSES = ("cat", "dog")


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
                image = tf.train.BytesList(value=[jpeg(number, size)])
                label = tf.train.Int64List(value=[number % 2])
                features = {
                    names[0]: tf.train.Feature(bytes_list=image),
                    names[1]: tf.train.Feature(int64_list=label),
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    return root


def encode(image, kind, **options):
    """Bytes of a Pillow image."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
