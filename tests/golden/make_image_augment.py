"""Make image_augment.npz: what timm and Pillow make of a small image, and draw.

    python tests/golden/make_image_augment.py FOLDER_OF_TIMM

with the folder `timm` of timm 1.0.31, Pillow and PyTorch. Its files are loaded by
themselves, so torchvision is not needed.
"""

import importlib.util
import random
import sys
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image

SIZE = (24, 32)
LEVELS = (3.7, 9.0)
FILL = (124, 116, 104)


def load(folder, name):
    """One file of timm as a module."""
    spec = importlib.util.spec_from_file_location(name, folder / "data" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_image():
    """Smooth colours with some noise, darker to the left."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = [np.sin(row / 5 + k) * np.cos(column / (4 + k)) for k in range(3)]
    image = 110 + 70 * np.stack(waves, -1) + column[..., None]
    return (image + rng.normal(0, 12, image.shape)).clip(0, 255).astype("uint8")


def operations(timm, image):
    """Image and argument of every operation, level, sign and interpolation."""
    arrays, image = {}, Image.fromarray(image)
    for name in timm._RAND_INCREASING_TRANSFORMS:
        for level in LEVELS:
            for sign in (1, -1):
                timm._randomly_negate = lambda value, sign=sign: sign * value
                function = timm.LEVEL_TO_ARG[name]
                values = function(level, {}) if function else ()
                values = values if isinstance(values, tuple) else (values,)
                for kind in ("BILINEAR", "BICUBIC"):
                    result = timm.NAME_TO_OP[name](
                        image,
                        *values,
                        fillcolor=FILL,
                        resample=getattr(Image.Resampling, kind),
                    )
                    key = f"operation/{name}/{level}/{sign}/{kind.lower()}"
                    arrays[key] = np.array(result)
                    arrays[f"argument/{name}/{level}/{sign}"] = np.float64(
                        values[0] if values else 0
                    )
    return arrays


def policy(timm, count=30_000):
    """How often each operation is applied, and arguments of some of them."""
    names = timm._RAND_INCREASING_TRANSFORMS
    calls = []
    augment = timm.rand_augment_transform(
        "rand-m9-n2-mstd0.5-inc1", {"img_mean": FILL, "interpolation": 3}
    )
    for number, op in enumerate(augment.ops):
        op.aug_fn = lambda image, *values, number=number, **_: calls.append(
            (number, values[0] if values else 0)
        )
    random.seed(0)
    np.random.seed(0)
    per_image = []
    for _ in range(count):
        before = len(calls)
        augment(None)
        per_image.append(len(calls) - before)
    drawn = np.array([number for number, _ in calls])
    arrays = {
        "policy/counts": np.bincount(drawn, minlength=len(names)),
        "policy/per_image": np.bincount(per_image, minlength=3),
    }
    for name in ("Rotate", "ColorIncreasing", "TranslateXRel"):
        chosen = [v for number, v in calls if names[number] == name][:1500]
        arrays[f"policy/{name}"] = np.array(chosen, "float32")
    return arrays


def erasing(timm, count=2000):
    """Heights and widths of what is erased of images of two sizes."""
    arrays = {}
    random.seed(0)
    for size in (32, 224):
        erase = timm.RandomErasing(probability=0.25, mode="const", device="cpu")
        sizes = []
        for _ in range(4 * count):
            image = torch.ones(1, size, size)
            erase(image)
            gone = (image[0] == 0).numpy()
            sizes.append((gone.any(1).sum(), gone.any(0).sum()))
        arrays[f"erasing/{size}"] = np.array(sizes, "int16")
    return arrays


def mixing(timm):
    """Targets of mixup, and boxes and targets of cutmix."""
    labels = torch.tensor([3, 0, 7, 7])
    arrays = {"mixup/labels": labels.numpy()}
    for share in (1.0, 0.7, 0.25):
        for smoothing in (0.0, 0.1):
            target = timm.mixup_target(labels, 10, share, smoothing)
            arrays[f"mixup/{share}/{smoothing}"] = target.numpy()
    rng, boxes = np.random.default_rng(0), []
    for height, width in ((32, 32), (24, 40), (7, 9)):
        for share in (0.05, 0.4, 0.77, 0.99):
            for _ in range(4):
                centre = rng.integers(0, (height, width))
                draws = iter(centre)
                kept = np.random.randint
                np.random.randint = lambda *_, size, draws=draws: next(draws)
                box, corrected = timm.cutmix_bbox_and_lam((height, width), share)
                np.random.randint = kept
                boxes.append((height, width, share, *centre, *box, corrected))
    return {**arrays, "cutmix": np.array(boxes, "float64")}


def main(folder):
    """Write `image_augment.npz` beside this file."""
    image = make_image()
    timm = load(Path(folder), "auto_augment")
    arrays = {"image": image, **operations(timm, image)}
    arrays |= policy(load(Path(folder), "auto_augment"))
    arrays |= erasing(load(Path(folder), "random_erasing"))
    arrays |= mixing(load(Path(folder), "mixup"))
    target = Path(__file__).with_name("image_augment.npz")
    np.savez_compressed(target, pillow=PIL.__version__, **arrays)
    print(f"{target}: {len(arrays)} arrays, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
