"""Spikes, features and logits of a few examples, from one pass."""

import dataclasses

import keras
import numpy as np

from keras_qkformer.layers.neuron_scope import neuron_scope
from keras_qkformer.ops.inference import run_rarely
from keras_qkformer.ops.normalization import wide_dtype


@dataclasses.dataclass(frozen=True)
class OnePass:
    """What a model does with one batch.

    Attributes:
        spikes: dict from the paths of the neurons, in order of their calls, to arrays
            `(batch, time, ...)`, float32 or wider.
        features: dict from stages, in order, to arrays
            `(batch, time, height, width, channels)`, float32 or wider.
        logits_of_steps: array `(batch, time, classes)`.
    """

    spikes: dict
    features: dict
    logits_of_steps: np.ndarray


def one_pass(model, inputs):
    """Run one batch through a model in inference, and keep all of that.

    Layer by layer, JAX would compile every operation alone, and PyTorch would keep what
    gradients need; TensorFlow runs one batch sooner than it traces it.

    Args:
        model: a `SpikingClassifier`.
        inputs: array of the shape and range that the model takes, batch first: a few
            examples, because the spikes of all neurons are kept.

    Returns:
        `OnePass`.

    Raises:
        ValueError: if the shape of the inputs does not fit the model.
    """
    return next(_passes(run_rarely(_Kept(model)), [inputs]))


def passes(model, batches):
    """Yield the `OnePass` of each batch; batches of one size share a program.

    Args:
        model: see `one_pass`.
        batches: iterable of arrays, see there.

    Yields:
        `OnePass`, of which the caller keeps what it needs.

    Raises:
        ValueError: see `one_pass`.
    """
    yield from _passes(_Kept(model), batches)


def _passes(kept, batches):
    expected = tuple(kept.model.input_shape[1:])
    for inputs in batches:
        received = tuple(np.shape(inputs))
        if received[1:] != expected:
            raise ValueError(
                f"images must have the shape (batch, {', '.join(map(str, expected))}) "
                f"for this model. Received: {received}"
            )
        found = kept.predict_on_batch(np.asarray(inputs))
        # NumPy has no bfloat16 of its own, and can't count above 256 in it.
        found = keras.tree.map_structure(lambda x: x.astype(wide_dtype(x.dtype)), found)
        yield OnePass(
            # JAX sorts the keys of a dictionary.
            spikes={path: found["spikes"][path] for path in kept.paths},
            features={s: found["features"][s] for s in kept.model.backbone.output},
            logits_of_steps=found["logits_of_steps"],
        )


class _Kept(keras.Model):
    # A functional model would trace all layers once more, for the output shape.
    def __init__(self, model):
        super().__init__(autocast=False, name="kept")
        self.model = model
        self.built = True
        self.paths = ()  # Of the neurons, in order.

    def call(self, inputs):
        spikes = {}
        with neuron_scope(record=lambda neuron, x: spikes.update({neuron.path: x})):
            features = self.model.backbone(inputs, training=False)
            logits = self.model.logits_of_steps(inputs, features=features)
        self.paths = tuple(spikes)
        return {"spikes": spikes, "features": features, "logits_of_steps": logits}
