"""`keras-qkformer data preview` and `data benchmark` as a user meets them."""

import pytest
from fake_images import make_folder
from saved_presets import shallow_preset

from keras_qkformer.cli.main import main

pytestmark = pytest.mark.backend_independent
RECIPE = """
from keras_qkformer.training.recipe import Data, ImageAugmentation, Optimizer, Recipe
recipe = Recipe(
    preset=PRESET,
    model={"num_classes": 2},
    data=Data(
        name="folder", data_dir="images", train="train", validation="test",
        test="test", batch_size=4,
        image_augmentation=ImageAugmentation(mixup_alpha=0.5),
    ),
    optimizer=Optimizer(epochs=1, learning_rate=1e-3),
)
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Function from arguments to exit status, output and errors, beside the images."""
    root = make_folder(tmp_path / "images")
    (root / "train/cat/0.jpg").write_text("a text")
    preset = shallow_preset(image_size=16, in_channels=3)
    (tmp_path / "recipe.py").write_text(f"PRESET = {preset!r}\n{RECIPE}")
    monkeypatch.chdir(tmp_path)

    def run_command(command, *arguments):
        try:
            status = main(["data", command, *arguments])
        except SystemExit as stop:  # argparse
            status = stop.code
        return (status, *capsys.readouterr())

    return run_command


def test_preview_is_a_picture_and_names_what_was_left_out(run, tmp_path):
    pytest.importorskip("matplotlib", reason="draws it")
    status, output, errors = run("preview", "recipe.py", "--count", "12")
    flips = "half of the images are mirrored; unless a mirror image keeps its label, "
    flips += "as of most photos: --set data.image_augmentation.flip=false"
    shares = "numbers are the label's probabilities: an image mixed from two has a "
    shares += "share of each, and label smoothing spreads the rest over all classes"
    assert (status, output) == (0, f"preview.png\n{shares}\n{flips}\n")
    assert (tmp_path / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert "left out: images/train/cat/0.jpg: not a whole JPEG" in errors
    assert "1 damaged image left out" in errors


def test_benchmark_prints_images_per_second(run):
    status, output, _ = run("benchmark", "recipe.py", "--seconds", "0.05")
    assert status == 0
    *lines, verdict = [line.split() for line in output.splitlines()]
    assert [line[0] for line in lines] == [
        "read",
        "decode",
        "batch",
        "augment",
        "train",
    ]
    assert all(line[2] == "images/s" for line in lines)
    assert verdict[:3] == ["data", "come", "at"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preview", "recipe.py", "--count", "0"], "whole number from 1 to 1,024"),
        (["benchmark", "recipe.py", "--seconds", "-1"], "a number from 0.001 to 3,600"),
        (["preview", "none.py"], "must be a file that exists. Received: 'none.py'"),
        (["preview", "recipe.py", "--set", "data.data_dir=gone"], "'gone'"),
    ],
)
def test_mistake_is_one_line_with_status_2(run, arguments, message):
    status, output, errors = run(*arguments)
    assert (status, output) == (2, "")
    assert message in errors and errors.count("\n") == 1
