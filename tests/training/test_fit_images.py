"""Training on folders of images: augmented, damaged, resumed; previews and speeds."""

import numpy as np
import pytest
from fake_images import make_folder
from harness import free_port

from keras_qkformer.data.data_service import serve_dispatcher, serve_worker
from keras_qkformer.training.fit import evaluate, fit, predict_images
from keras_qkformer.training.inspect_data import benchmark, preview
from keras_qkformer.training.recipe import (
    Data,
    ImageAugmentation,
    Optimizer,
    Recipe,
    override,
)


@pytest.fixture
def root(tmp_path):
    return make_folder(tmp_path / "images")


def make_recipe(root, *changes):
    recipe = Recipe(
        preset="qkformer_tiny",
        model={
            "image_size": 16,
            "in_channels": 3,
            "num_classes": 2,
            "embed_dim": 16,
            "time_steps": 2,
        },
        data=Data(
            name="folder",
            data_dir=str(root),
            train="train[:75%]",
            validation="train[75%:]",
            test="test",
            batch_size=4,
            evaluation_crop=0.8,
            image_augmentation=ImageAugmentation(
                policy="randaugment",
                random_resized_crop=(0.3, 1.0),
                erase_probability=0.25,
                mixup_alpha=0.5,
                cutmix_alpha=1.0,
            ),
        ),
        optimizer=Optimizer(epochs=1, learning_rate=1e-3),
        label_smoothing=0.1,
    )
    return override(recipe, changes)


def test_images_of_every_size_train_and_damaged_ones_are_listed(root, tmp_path):
    damaged = root / "train/cat/0.jpg", root / "test/dog/1.jpg"
    for path in damaged:
        path.write_text("a text")
    workdir = tmp_path / "run"
    results = fit(make_recipe(root), workdir, verbose=0)
    assert np.isfinite(results["history"]["loss"]).all()
    assert results["test"]["examples"] == 3
    assert results["damaged_images"] == 2
    lines = (workdir / "damaged_images.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == sorted(map(str, damaged))
    assert evaluate(workdir) == results["test"]
    # A file is preprocessed as in evaluation: its answer is that of the split.
    files = [root / "test" / name for name in ("cat/0.jpg", "cat/1.jpg", "dog/0.jpg")]
    names, probabilities = predict_images(workdir, files)
    accuracy = (probabilities.argmax(-1) == [0, 0, 1]).mean()
    assert names == ["cat", "dog"]
    assert accuracy == pytest.approx(results["test"]["accuracy"])
    loss = -np.log(probabilities[range(3), [0, 0, 1]]).mean()
    assert loss == pytest.approx(results["test"]["loss"], abs=1e-4)
    images = np.load(workdir / "examples.npz")["images"]
    assert (images.shape, images.dtype) == ((3, 20, 20, 3), "uint8")


@pytest.mark.backend_independent
def test_images_of_a_folder_train_from_a_data_service(root, tmp_path):
    (root / "train/cat/0.jpg").write_text("a text")
    port = free_port()
    address = f"grpc://localhost:{port}"
    dispatcher = serve_dispatcher(port)
    worker = serve_worker(address)
    simple = "data.image_augmentation.policy=none", "max_steps=1"
    recipe = make_recipe(root, "data.train=train", *simple)
    results = fit(recipe, tmp_path / "run", verbose=0, data_service=address)
    assert np.isfinite(results["history"]["loss"]).all()
    del worker, dispatcher


@pytest.mark.backend_independent
def test_strict_stops_at_a_damaged_image(root, tmp_path):
    (root / "train/cat/3.jpg").write_bytes(b"")
    recipe = make_recipe(root, "data.strict=true", "data.train=train")
    with pytest.raises(ValueError, match=r"must be whole\..*3\.jpg: a file of 0 bytes"):
        fit(recipe, tmp_path / "run", verbose=0)


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.mean=[0.5]", r"data\.mean must have 3 values.*Received: \[0\.5\]"),
        ("data.max_zoom=0.1", r"instead of max_shift"),
        ("model.num_classes=3", r"must have the 2 classes of 'folder'"),
        ("data.sensor_size=[3, 3]", r"sensor_size is no option of the source"),
    ],
)
def test_value_that_does_not_fit_is_an_error(root, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        fit(make_recipe(root, change), tmp_path / "run", verbose=0)


@pytest.mark.backend_independent
def test_preview_shows_what_the_network_sees(root):
    plain = 'data.image_augmentation={"flip": false}'
    images, captions = preview(make_recipe(root, plain), 8)
    assert images.shape == (8, 16, 16, 3)
    assert images.min() > -0.01 and images.max() < 1.01
    assert {caption.split()[0] for caption in captions} == {"cat", "dog"}
    images, captions = preview(make_recipe(root, "data.batch_size=2"), 4)
    assert images.shape == (4, 16, 16, 3) and len(captions) == 4


@pytest.mark.backend_independent
def test_benchmark_has_a_speed_for_every_stage(root):
    rates = benchmark(make_recipe(root), seconds=0.05)
    assert list(rates) == ["read", "decode", "batch", "augment"]
    assert all(rate > 0 for rate in rates.values())
