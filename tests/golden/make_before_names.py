r"""Files with learnt neurons by their earlier names, which must load for ever.

Run it with the code of commit 18f2538, on TensorFlow, from a checkout of it:

    git worktree add /tmp/before 18f2538
    PYTHONPATH=/tmp/before KERAS_BACKEND=tensorflow python \
        tests/golden/make_before_names.py

It writes tests/golden/before/plif/: a zipped preset folder, the zipped checkpoint of a
training, `.keras` files of the layers and of a stream, and what each of them answers.
"""

import shutil
import tempfile
from pathlib import Path

import keras
import make_before
import numpy as np
from keras import ops
from make_before import DRAW, alive, save

from keras_qkformer import layers
from keras_qkformer.models import QKFormerClassifier, StreamingClassifier
from keras_qkformer.training.checkpoint import Checkpoint

FOLDER = make_before.FOLDER / "plif"
SMALL = {
    "image_size": 4,
    "in_channels": 2,
    "static": False,
    "time_steps": 2,
    "embed_dim": 4,
    "depths": (1, 1),
    "num_heads": 1,
    "mlp_ratio": 1,
    "residual": "pre_activation",
    "neuron": "plif",
    "num_classes": 3,
}


def learnt(model):
    """The model, its neurons firing, each with a time constant of its own."""
    for neuron in alive(model)._flatten_layers():
        if isinstance(neuron, layers.ParametricLIF):
            neuron.w.assign(DRAW.normal(0.5, 1.0))
    return model


def single_layers():
    """Every layer that owns neurons, with all that it can own."""
    inputs = keras.Input((2, 4, 4, 2))
    options = {"neuron": "plif", "pre_activation": True}
    x = layers.PatchEmbedding(4, family="cifar", **options)(inputs)
    x = layers.SpikingMLP(2, **options)(x)
    x = layers.ChannelQKAttention(**options)(x)
    x = layers.TokenQKAttention(2, **options)(x)
    x = layers.SpikingSelfAttention(2, membrane_state="batch", neuron="plif")(x)
    return learnt(keras.Model(inputs, x))


def streaming():
    """A step of a stream as a model, and its stream."""
    stream = StreamingClassifier(learnt(small()))
    state = {
        name: keras.Input(entry.shape, dtype=entry.dtype, name=name)
        for name, entry in stream.state_spec.items()
    }
    frame = keras.Input((4, 4, 2), name="frame")
    return keras.Model([frame, state], list(stream(frame, state))), stream


def small():
    """A classifier."""
    return QKFormerClassifier.from_preset("qkformer_tiny", **SMALL)


def trained(folder, frames):
    """A classifier after an epoch of training, whose checkpoint is in the folder."""
    model = learnt(small())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    data = frames, np.arange(len(frames))
    kept = Checkpoint(folder, {})
    model.fit(*data, validation_data=data, callbacks=[kept], verbose=0)
    return model


def main():
    """Write the files."""
    keras.utils.set_random_seed(0)
    FOLDER.mkdir(exist_ok=True)
    make_before.FOLDER = FOLDER  # `save` writes there.
    frames = DRAW.poisson(0.5, (3, 2, 4, 4, 2)).astype("float32")
    answers = {"frames": frames}
    with tempfile.TemporaryDirectory() as folder:
        classifier = learnt(small())
        classifier.save_to_preset(folder)
        answers["preset"] = classifier(frames)
        shutil.make_archive(FOLDER / "preset", "zip", folder)
    with tempfile.TemporaryDirectory() as folder:
        model = trained(folder, frames)
        answers["checkpoint"] = model(frames)
        model.fit(frames, np.arange(3), batch_size=3, verbose=0)
        answers["resumed"] = model(frames)
        shutil.rmtree(Path(folder, "best"))
        shutil.make_archive(FOLDER / "checkpoint", "zip", folder)
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
