"""Damage preset folders and checkpoints at random: none may be loaded.

    python tests/fuzz/preset_folder.py --seconds 60 --seed 1

One file of a folder is flipped, cut, lengthened, overwritten, removed, exchanged with
another, or joined by a new one. It must be refused by a `ValueError` that names a
damaged file, in bounded text.
"""

import collections
import shutil
import sys
import tempfile
import time
from pathlib import Path

import fuzzing
import numpy as np

from keras_qkformer.manifest import CARD_FILE
from keras_qkformer.trained import load_trained
from keras_qkformer.training.checkpoint import Checkpoint


def flip(path, others, random):
    """Flip one bit, anywhere."""
    data = bytearray(path.read_bytes())
    data[random.integers(len(data))] ^= 1 << random.integers(8)
    path.write_bytes(data)


def cut(path, others, random):
    """Cut the end off, and not only the line's end."""
    data = path.read_bytes()
    path.write_bytes(data[: random.integers(len(data) - 1)])


def lengthen(path, others, random):
    """Append up to 100 bytes, not only white space."""
    with open(path, "ab") as file:
        file.write(b"x" + random.bytes(random.integers(100)))


def overwrite(path, others, random):
    """Replace up to 8 bytes that follow each other with others."""
    data = bytearray(path.read_bytes())
    start, new = random.integers(len(data)), random.bytes(8)
    changed = bytes(data[start : start + 8])
    data[start : start + 8] = bytes(255 - x for x in changed) or new
    path.write_bytes(data)


def remove(path, others, random):
    """Remove the file."""
    path.unlink()


def exchange(path, others, random):
    """Exchange two files."""
    other = others[random.integers(len(others))]
    data = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)


def add(path, others, random):
    """Add a copy under a new name."""
    shutil.copyfile(path, path.with_name(f"new-{path.name}"))


DAMAGE = (flip, cut, lengthen, overwrite, remove, exchange, add)


def fuzz(whole, load, seconds, seed, kinds=DAMAGE):
    """Damage copies of a folder until the time is up.

    Args:
        whole: path of the folder.
        load: function of a folder that loads it, or raises `ValueError`.
        seconds: float.
        seed: int.
        kinds: functions `(path, other paths, random)` that damage a file.

    Returns:
        `(counts, failures)`: a counter of kinds of damage, and a list of str.
    """
    random = np.random.default_rng(seed)
    counts, failures, end = collections.Counter(), [], time.monotonic() + seconds
    # The model card may be edited: nothing reads it.
    names = sorted(
        p.relative_to(whole)
        for p in whole.rglob("*")
        if p.is_file() and p.name != CARD_FILE
    )
    with tempfile.TemporaryDirectory() as place:
        while time.monotonic() < end or not counts:
            folder = shutil.copytree(whole, Path(place) / str(counts.total()))
            name = names[random.integers(len(names))]
            others = [folder / other for other in names if other != name]
            damage = kinds[random.integers(len(kinds))]
            damage(folder / name, others, random)
            counts[damage.__name__] += 1
            what = f"{damage.__name__} of {name}"
            try:
                load(folder)
                failures.append(f"{what}: loaded")
            except ValueError as error:
                text = str(error)
                named = any(str(each.name) in text for each in names)
                if not named or len(text) > 3000:
                    failures.append(f"{what}: {text[:300]}")
            except Exception as error:
                failures.append(f"{what}: {type(error).__name__}: {error}"[:300])
            shutil.rmtree(folder)
    return counts, failures


def make_preset(folder):
    """Write a small preset folder that `load_trained` takes."""
    from keras_qkformer.models import QKFormerClassifier

    model = QKFormerClassifier.from_preset(
        "qkformer_tiny", embed_dim=16, num_heads=2, time_steps=1
    )
    preprocessing = {"image_size": [8, 8], "mean": [0.3], "std": [0.4]}
    names = {"class_names": list("0123456789"), "preprocessing": preprocessing}
    model.save_to_preset(folder, names)
    return model


def make_checkpoint(workdir, model):
    """Write the checkpoint of a training that has just begun."""
    model.compile("sgd")
    checkpoint = Checkpoint(workdir, {})
    checkpoint.set_model(model)
    checkpoint.on_train_begin()


def main(arguments=None):
    """Run both for half of the time; return 1 if something damaged was loaded."""
    arguments = fuzzing.arguments_of_all().parse_args(arguments)
    failed = False
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        model = make_preset(place / "preset")
        make_checkpoint(place / "run", model)
        for name, load, kinds in (
            ("preset", load_trained, DAMAGE),
            # Without its state, the first checkpoint is that of a killed beginning.
            ("run", lambda folder: Checkpoint(folder, {}).restore(model), DAMAGE[:4]),
        ):
            counts, failures = fuzz(
                place / name, load, arguments.seconds / 2, arguments.seed, kinds
            )
            tried = f"{counts.total()} tried, {len(failures)} failed"
            print(f"{name}: {tried}, {dict(counts)}")
            print(*failures[:20], sep="\n")
            failed |= bool(failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
