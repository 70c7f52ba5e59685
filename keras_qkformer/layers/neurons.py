"""Neurons by name, and as templates from which layers make their own."""

import keras

from keras_qkformer.layers.lif import IF, LIF, ParametricLIF

NEURONS = {"lif": LIF, "if": IF, "plif": ParametricLIF}


def get_neuron(neuron, tau=None, surrogate="sigmoid"):
    """A neuron layer from its name.

    Args:
        neuron: str. `"lif"`, `"if"` or `"plif"`.
        tau: float > 1, or `None` for the default. Time constant in time steps, at the
            start of training for `"plif"`; `"if"` has none.
        surrogate: str. Name of the surrogate derivative.

    Raises:
        ValueError: if the name is unknown, or `tau` is given for a neuron without leak.
    """
    if neuron not in NEURONS:
        raise ValueError(
            f"neuron must be one of {sorted(NEURONS)}. Received: neuron={neuron!r}"
        )
    options = {"surrogate": surrogate}
    if tau is not None:
        if neuron == "if":
            raise ValueError(f"neuron='if' has no tau. Received: tau={tau}")
        options["init_tau" if neuron == "plif" else "tau"] = tau
    return NEURONS[neuron](**options)


def serialize_neuron(neuron):
    """The serialized form of a neuron given as a layer, a name, or that form already.

    Layers keep this form as the template of their neurons: a layer kept as an attribute
    would be tracked as a part that is never built.
    """
    if isinstance(neuron, str):
        neuron = get_neuron(neuron)
    if isinstance(neuron, keras.layers.Layer):
        return keras.saving.serialize_keras_object(neuron)
    if isinstance(neuron, dict):
        return neuron
    raise ValueError(
        f"neuron must be a layer or one of {sorted(NEURONS)}. Received: {neuron!r}"
    )


def neuron_for(layer, name="neuron", **changes):
    """A new neuron for a place inside `layer`, made from the template `layer.neuron`.

    Args:
        layer: the layer that will own it and whose dtype policy it takes.
        name: str. Name of the new neuron.
        **changes: constructor arguments to replace, such as `v_threshold`.
    """
    template = keras.saving.deserialize_keras_object(dict(layer.neuron))
    config = {**template.get_config(), **changes}
    config.update(name=name, dtype=layer.dtype_policy)
    return type(template).from_config(config)
