"""The files that a wheel brings along: copied, and classified as what they are."""

import filecmp
from pathlib import Path

import pytest

from keras_qkformer.cli.main import main
from keras_qkformer.cli.samples import SHIPPED
from keras_qkformer.data.images.digits import write_digit_images
from keras_qkformer.data.images.image_decoding import read_image
from keras_qkformer.data.sources import load_examples
from keras_qkformer.presets import folders as preset_files
from keras_qkformer.presets.addresses import fetched
from keras_qkformer.presets.folders import find_weights, kept_weights
from keras_qkformer.trained import find_trained

pytestmark = pytest.mark.backend_independent


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    (folder / "seven.png").write_bytes(b"hers")
    assert main(["samples", "--out", str(folder)]) == 0
    assert (folder / "seven.png").read_bytes() == b"hers"
    (folder / "seven.png").unlink()
    assert main(["samples", "--out", str(folder)]) == 0
    return folder


def test_samples_are_copied_whole_and_small(copied):
    names = [str(path.relative_to(copied)) for path in copied.rglob("*.*")]
    compared = filecmp.cmpfiles(SHIPPED, copied, names, shallow=False)
    assert sorted(compared[0]) == sorted(names) and not any(compared[1:])
    assert {"seven.png", "seven.aedat", "recipes/digits.py"} <= {*names}
    assert max(path.stat().st_size for path in copied.glob("seven.*")) < 20_000


@pytest.mark.parametrize(
    "command",
    [
        "predict weights/digits seven.png --top 1",
        "predict weights/dvs_digits --stream seven.aedat --frame-ms 50",
    ],
)
def test_a_seven_is_one(copied, monkeypatch, capsys, command):
    monkeypatch.chdir(copied)
    assert main(command.split()) == 0
    assert capsys.readouterr().out.splitlines()[-1].split("\t")[1].startswith("7:")


def test_weights_are_found_without_a_checkout(tmp_path, monkeypatch):
    """Of an installed wheel, where nothing but the package is there."""
    monkeypatch.delenv(preset_files.WEIGHTS_VARIABLE, raising=False)
    package = tmp_path / "site-packages" / "keras_qkformer"
    package.parent.mkdir()
    package.symlink_to(SHIPPED.parent, target_is_directory=True)
    monkeypatch.setattr(preset_files, "PACKAGE", package)
    assert kept_weights() == ["cifar10_small", "digits", "dvs_digits"]
    assert find_weights("digits", "qkformer_tiny").is_relative_to(package)
    with pytest.raises(ValueError, match=r"larger ones are in a checkout.*'cifar10'"):
        find_weights("cifar10", "qkformer_4_384_cifar10")


def test_weights_have_a_name_that_finds_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shipped = preset_files.weights_folder() / "digits"
    assert find_trained("digits") == fetched("digits") == shipped
    assert main(["predict", "digits", str(SHIPPED / "seven.png")]) == 0
    assert capsys.readouterr().out.split("\t")[1].startswith("7:")
    with pytest.raises(ValueError, match=r"'digist' \(did you mean 'digits'\?\)"):
        find_trained("digist")
    assert main(["predict", "digist", "seven.png"]) == 2
    assert "'digist' (did you mean 'digits'?)" in capsys.readouterr().err
    assert main(["evaluate", "x"]) == 2
    assert f"(weights: {', '.join(kept_weights())})" in capsys.readouterr().err
    # A preset is known, but has no weights.
    assert main(["predict", "qkformer_tiny", str(SHIPPED / "seven.png")]) == 2
    said = capsys.readouterr().err
    assert "fit RECIPE --set preset=qkformer_tiny trains it" in said
    # A folder of the user's comes first, and is not taken for what it isn't.
    Path("digits").mkdir()
    with pytest.raises(ValueError, match=r"Received: 'digits'$"):
        find_trained("digits")


def test_weights_that_are_elsewhere_are_pointed_at(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("recipe.py").write_text((SHIPPED / "recipes" / "image_folder.py").read_text())
    assert main(["fit", "recipe.py"]) == 2
    error = capsys.readouterr().err
    assert "`keras-qkformer samples` copies it" in error
    # What doesn't need them is shown.
    assert main(["recipes", "show", "recipe.py"]) == 0
    output, error = capsys.readouterr()
    assert "preset=weights/cifar10_small" in output and "model.tau" not in output
    assert error.startswith("no arguments of the model: A preset must be")
    assert "`keras-qkformer samples` copies it" in error


def test_digits_are_written_as_images_once(tmp_path):
    assert write_digit_images(tmp_path, most=3) == 6
    assert write_digit_images(tmp_path, most=3) == 0
    images, labels = load_examples("digits", "test[:3]")
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = tmp_path / "test" / str(label) / f"{index:04}.png"
        assert (read_image(file, 1) == image).all()
