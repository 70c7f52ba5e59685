"""Mistakes that new users make, and what each is answered: makes `docs/mistakes.md`.

PYTHONPATH=tests python tests/cli/typical_mistakes.py > docs/mistakes.md
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

from keras_qkformer.cli.main import main

ROOT = Path(__file__).parents[2]
HEAVY = {"jax", "keras", "tensorflow", "torch"}
HEAD = """\
# Mistakes and answers

Each of these is answered within two seconds of one processor, by one line and the exit
status 2; neither Keras nor its backends start for it, and nothing is written. A trained
model of images is in `model`, one of event frames in `dvs`; `photos` is a folder of
images, `cup.aedat` a recording, `empty` an empty folder and `notes.txt` a text. The
lines are those that a test gets, made by `tests/cli/typical_mistakes.py`.
"""
MISTAKES = {
    "Names that are nearly right": [
        "trian recipes/digits.py",
        "sumary model",
        "summary modl",
        "predict digist seven.png",
        "summary qkformer_4_384",
        "-v",
        "fit recipes/digit.py",
        "fit recipes/digits",
        "fit recipes",
        "fit recipes/ablations.py:t3",
        "fit recipes/digits.py:small",
        "fit recipes/digits.py --work-dir runs/digits",
        "fit recipes/digits.py --epochs 5",
        "fit recipes/digits.py --backend pytorch",
        "fit recipes/digits.py --set data.name=digit",
        "fit recipes/cifar10.py --set data.data_dir=photo",
        "fit recipes/digits.py --set data.train=tarin",
        "fit recipes/digits.py --set model.surrogate=sigmod",
        "fit recipes/digits.py --set preset=qkformer_4_384",
        "fit recipes/digits.py --set preset=qkformer_tny",
        "fit recipes/digits.py --set epochs=5",
        "fit recipes/digits.py --set optimizer.lr=0.001",
        "fit recipes/digits.py --set optimizer.epoch=5",
        "fit recipes/digits.py --set model.embed_dims=64",
        "predict modl seven.png",
        "predict model seven.pgn",
        "predict model photo/*.png",
        "evaluate modle",
        "analyze modle --out report",
        "analyze model --data recipes/digts.py --out report",
        "analyze model --data photo --out report",
        "analyze model --data recipes/digits.py --split tset --out report",
        "analyze --compare model modl --out report",
        "analyze model --table papers",
        "export model --format tflite",
        "export model --format ONNX",
        "export model --weights fp16",
        "export model --format onnx --outputs spike",
        "convert model --to torch",
        "data preprocess photos",
        "data prepare dvs_gesture --manual-dir downloads",
        "data show cup.adat --out cup.gif",
        "recipes show recipes/digts.py",
    ],
    "Something is missing": [
        "fit",
        "fit recipes/digits.py --workdir",
        "fit recipes/digits.py --set",
        "fit recipes/digits.py --set optimizer.epochs 5",
        "predict",
        "predict model",
        "predict seven.png",
        "predict qkformer_tiny seven.png",
        "predict model --stream",
        "predict dvs --stream -",
        "predict model empty",
        "evaluate",
        "evaluate empty",
        "evaluate model",
        "analyze",
        "analyze model",
        "analyze --compare model --out report",
        "summary",
        "export",
        "export empty",
        "export runs/digits",
        "serve-check",
        "serve-check saved_models/digits",
        "convert",
        "convert checkpoint.pth",
        "fit recipes/nmnist.py",
        "data prepare dvs128_gesture",
        "data prepare dvs128_gesture --manual-dir downloads",
        "data benchmark",
        "lr-plot",
        "keep runs/digits --out best",
        "predict hf://someone seven.png",
        "upload model hf://someone/digits",
        "upload model someone/digits --licence mit",
    ],
    "One thing in place of another": [
        "fit model",
        "fit notes.txt",
        "fit recipes/digits.py runs/digits",
        "fit recipes/digits.py --workdir notes.txt",
        "predict seven.png model",
        "predict recipes/digits.py seven.png",
        "predict model cup.aedat",
        "predict model --stream cup.aedat",
        "predict dvs seven.png",
        "predict model cup.aedat --stream cup.aedat",
        "predict model seven.png --frame-ms 50",
        "predict model seven.png --json answers.json",
        "predict --url localhost:8501 seven.png",
        "predict --url http://localhost:8501 seven.png",
        "predict model seven.png --url http://localhost:8501/v1/models/digits",
        "evaluate recipes/digits.py",
        "evaluate model --set seed=1",
        "evaluate model --recipe recipes/digits.py --split validation",
        "evaluate model --recipe model",
        "analyze recipes/digits.py --out report",
        "analyze model --data seven.png --out report",
        "analyze model --compare model model --out report",
        "analyze model --set seed=1 --out report",
        "analyze model --out notes.txt",
        "analyze model --out empty",
        "summary recipes/digits.py",
        "summary model --batch-size 8",
        "export recipes/digits.py",
        "export model saved_models/digits",
        "export model --format onnx --out model",
        "export model --format onnx --batch-sizes 1,2",
        "export model --outputs spikes",
        "export model --format litert --outputs spikes",
        "serve-check model",
        "convert model",
        "convert seven.png --to pytorch",
        "convert model --to pytorch --out empty",
        "data show notes.txt --out notes.gif",
        "data show cup.aedat --out cup.aedat",
        "data show cup.aedat --out cup.mp4",
        "recipes notes.txt",
        "presets qkformer_4_384_cifar10",
    ],
    "A value that can't be": [
        "fit recipes/digits.py --devices 0",
        "fit recipes/digits.py --devices two",
        "fit recipes/digits.py --mesh 2x2",
        "fit recipes/digits.py --hosts localhost",
        "fit recipes/digits.py --set seed=x",
        "fit recipes/digits.py --set optimizer.epochs=0",
        "fit recipes/digits.py --set optimizer.epochs=1.5",
        "fit recipes/digits.py --set optimizer.epochs=five",
        "fit recipes/digits.py --set optimizer.learning_rate=-1",
        "fit recipes/digits.py --set data.batch_size=0",
        "fit recipes/digits.py --set label_smoothing=2",
        "fit recipes/digits.py --set model.embed_dim=big",
        "fit recipes/digits.py --set model.embed_dim=7",
        "fit recipes/digits.py --set model.num_heads=3",
        "fit recipes/digits.py --set model.image_size=9",
        "fit recipes/digits.py --set model.tau=1",
        "fit recipes/digits.py --set model.drop_path=1",
        "fit recipes/digits.py --set model.num_classes=0",
        "fit recipes/digits.py --set model.mlp_ratio=null",
        "fit recipes/digits.py --set model.static=maybe",
        "summary model --profile --repeats 0",
        "fit recipes/digits.py --set data.test=test[:9",
        "predict model seven.png --top 0",
        "predict model seven.png --top all",
        "predict model --stream cup.aedat --frame-ms 0",
        "export model --batch-sizes 8,4",
        "export model --batch-sizes 1 2",
        "export model --max-megapixels none",
        "data show cup.aedat --out cup.gif --sensor-size 128",
        "data show cup.aedat --out cup.gif --duration-ms 0",
        "data prepare dvs128_gesture --manual-dir empty --config fast",
    ],
}
LINES = [line for lines in MISTAKES.values() for line in lines]


def make_place(folder):
    """Fill a folder with what the mistakes are made on."""
    for name, place in (
        ("recipes", "recipes"),
        ("weights/digits", "model"),
        ("weights/dvs_digits", "dvs"),
    ):
        shutil.copytree(ROOT / name, folder / place)
    for name in ("empty", "photos/train/cat"):
        (folder / name).mkdir(parents=True)
    (folder / "seven.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "cup.aedat").write_bytes(b"#!AER-DAT3.1\r\n#!END-HEADER\r\n")
    (folder / "notes.txt").write_text("Some notes.\n")


def answer(line):
    """Run a command; return its status, output, errors and processor seconds."""
    output, errors, begin = io.StringIO(), io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            status = main(shlex.split(line))
        except SystemExit as stop:
            status = stop.code
    seconds = time.process_time() - begin
    return status, output.getvalue(), errors.getvalue(), seconds


def page():
    """The page, from the answers to all mistakes."""
    lines = [HEAD]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        make_place(Path(folder))
        before = sorted(Path(folder).rglob("*"))
        for kind, mistakes in MISTAKES.items():
            lines += [f"## {kind}\n"]
            for line in mistakes:
                status, output, errors, seconds = answer(line)
                told = re.sub(r"^keras-qkformer[a-z -]*: error: ", "", errors[:-1])
                fine = status == 2 and not output and told.isprintable()
                if not fine or seconds > 2 or told == errors[:-1]:
                    raise AssertionError((line, status, output, errors, seconds))
                lines += [f"    keras-qkformer {line}\n", f"{told}\n"]
        new = {*Path(folder).rglob("*")} - {*before}
        if loaded := sorted(HEAVY & sys.modules.keys()):
            raise AssertionError(f"a mistake started {loaded}")
        if new:
            raise AssertionError(f"a mistake wrote {sorted(new)}")
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ["COLUMNS"] = "80"
    print(page(), end="")
