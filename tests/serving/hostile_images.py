"""Ask a served model of images about damaged files, in a process without Keras.

    python tests/serving/hostile_images.py saved_models/digits/1 10000

Every file stands between two good ones, whose answers must not change. Prints how many
were refused and answered, and the largest memory of the process.
"""

import io
import json
import resource
import sys

import numpy as np
from PIL import Image

BATCH = 16


def originals():
    """Small files of every kind."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (24, 40, 3), "uint8")
    # Smooth, or a JPEG file would be all data and no structure.
    smooth = np.cumsum(pixels.astype(int) - 127, 1).clip(0, 255).astype("uint8")
    for format, options in (
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
    ):
        file = io.BytesIO()
        Image.fromarray(smooth).save(file, format, **options)
        yield file.getvalue()


def mutated(file, draw):
    """A file with some bytes changed, left out, put in or cut off."""
    file = bytearray(file)
    for _ in range(draw.integers(1, 8)):
        # Half of the changes are where headers are.
        end = len(file) if draw.random() < 0.5 else min(len(file), 200)
        place = int(draw.integers(0, max(end, 1)))
        kind = draw.integers(0, 5)
        if kind == 0:
            file[place : place + 1] = bytes([draw.integers(0, 256)])
        elif kind == 1:
            del file[place : place + int(draw.integers(1, 20))]
        elif kind == 2:
            file[place:place] = draw.bytes(int(draw.integers(1, 20)))
        elif kind == 3 and draw.random() < 0.3:
            del file[place:]
        else:
            file[place : place + 4] = b"\xff\xff\xff\xff"
    return bytes(file)


def main(version, count):
    """Ask about `count` files; returns 0 if all went well."""
    sys.modules["keras"] = None  # As on a machine without it.
    from keras_qkformer.serving.local_model import LocalModel

    model = LocalModel(version)
    files = list(originals())
    good = model.ask("predict_lenient", {"image_bytes": as_array(files)})
    assert not any(good["status"]), good["status"]
    draw = np.random.default_rng(1)
    told = {"refused": 0, "answered": 0}
    before = peak()
    for start in range(0, count, BATCH):
        number = min(BATCH, count - start)
        batch, kinds = [], draw.integers(0, len(files), 2 * number + 1)
        for i, kind in enumerate(kinds):
            batch.append(mutated(files[kind], draw) if i % 2 else files[kind])
        answers = model.ask("predict_lenient", {"image_bytes": as_array(batch)})
        assert not any(answers["status"][::2])
        difference = answers["logits"][::2] - good["logits"][kinds[::2]]
        assert np.abs(difference).max() < 1e-4
        for status, ids in zip(
            answers["status"][1::2], answers["class_ids"][1::2], strict=True
        ):
            assert bool(status) == (ids[0] == -1)
            told["refused" if status else "answered"] += 1
    told["megabytes_before"], told["megabytes_after"] = before, peak()
    print(json.dumps(told))


def as_array(files):
    """The files as an array of bytes objects."""
    array = np.empty(len(files), object)
    array[:] = files
    return array


def peak():
    """Largest memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
