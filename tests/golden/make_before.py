"""Files that the code of before families wrote, which must load for ever.

Run it with the code of commit eb5334f, on TensorFlow, from a checkout of it:

    git worktree add /tmp/before eb5334f
    PYTHONPATH=/tmp/before KERAS_BACKEND=tensorflow python tests/golden/make_before.py

It writes tests/golden/before/: a zipped preset folder, `.keras` files of a classifier,
a backbone, a model of single layers and a stream, and what each of them answers.
"""

import shutil
import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_qkformer import QKFormerBackbone, QKFormerClassifier, layers
from keras_qkformer.models import StreamingQKFormer

FOLDER = Path(__file__).with_name("before")
SMALL = {
    "image_size": 8,
    "in_channels": 2,
    "time_steps": 2,
    "family": "cifar",
    "embed_dim": 8,
    "depths": (1, 1),
    "num_heads": 2,
    "mlp_ratio": 2,
}
DRAW = np.random.default_rng(0)


def alive(model):
    """A model whose neurons fire."""
    for norm in model._flatten_layers():
        if isinstance(norm, layers.BatchNorm):
            norm.gamma.assign(np.full(norm.gamma.shape, 4.0))
            norm.beta.assign(DRAW.normal(0.5, 1.0, norm.beta.shape))
    return model


def save(model, name):
    """Write a `.keras` file, compressed: thousands of zeros are in its HDF5."""
    path = FOLDER / f"{name}.keras"
    model.save(path)
    with zipfile.ZipFile(path) as file:
        entries = {entry: file.read(entry) for entry in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for entry, content in entries.items():
            file.writestr(entry, content)


def single_layers():
    """Every public layer that stands alone, one after the other."""
    inputs = keras.Input((2, 8, 8, 2))
    x = layers.ConvBNLIF(4, max_pool=True, neuron="plif", name="unit")(inputs)
    x = layers.PatchEmbedding(8, family="cifar", neuron=layers.IF(), name="embed")(x)
    x = layers.QKFormerBlock("channel", 2, mlp_ratio=1, name="block")(x)
    x = layers.SpikingMLP(2, pre_activation=True, name="mlp")(x)
    x = layers.SpikingSelfAttention(2, name="self_attention")(x)
    x = layers.TokenQKAttention(2, pre_activation=True, name="token_attention")(x)
    x = layers.ChannelQKAttention(name="channel_attention")(x)
    x = layers.BatchNorm(name="norm")(x)
    return alive(keras.Model(inputs, layers.LIF(tau=1.5, name="lif")(x)))


def streaming():
    """A step of a stream as a model."""
    small = {**SMALL, "static": False}
    stream = StreamingQKFormer(alive(QKFormerClassifier(QKFormerBackbone(**small), 3)))
    state = {
        name: keras.Input(entry.shape, dtype=entry.dtype, name=name)
        for name, entry in stream.state_spec.items()
    }
    frame = keras.Input((8, 8, 2), name="frame")
    return keras.Model([frame, state], list(stream(frame, state))), stream


def main():
    """Write the files."""
    keras.utils.set_random_seed(0)
    FOLDER.mkdir(exist_ok=True)
    images = DRAW.normal(0, 3, (3, 8, 8, 2)).astype("float32")
    frames = DRAW.poisson(0.5, (3, 2, 8, 8, 2)).astype("float32")
    answers = {"images": images, "frames": frames}
    classifier = alive(QKFormerClassifier(QKFormerBackbone(**SMALL), 3, dropout=0.1))
    with tempfile.TemporaryDirectory() as folder:
        classifier.save_to_preset(folder, {"class_names": ["a", "b", "c"]})
        shutil.make_archive(FOLDER / "preset", "zip", folder)
    save(classifier, "classifier")
    answers["classifier"] = classifier(images)
    backbone = alive(QKFormerBackbone(**{**SMALL, "residual": "pre_activation"}))
    save(backbone, "backbone")
    answers["backbone"] = backbone(images)["stage2"]
    single = single_layers()
    save(single, "layers")
    answers["layers"] = single(frames)
    step, stream = streaming()
    save(step, "streaming")
    _, state = stream(frames[:, 0], stream.initial_state(3))
    answers["streaming"], _ = stream(frames[:, 1], state)
    for name, array in answers.items():
        answers[name] = array = np.asarray(ops.convert_to_numpy(array))
        assert np.ptp(array) > 0, name
    np.savez_compressed(FOLDER / "answers.npz", **answers)


if __name__ == "__main__":
    main()
