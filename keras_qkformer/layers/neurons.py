"""Make neurons from their names, or from the template that a layer was given."""

import keras

from keras_qkformer.layers.lif import IF, LIF, ParametricLIF

NEURONS = {"lif": LIF, "if": IF, "plif": ParametricLIF}


def get_neuron(neuron, tau=None, surrogate="sigmoid"):
    """Make a neuron layer from its name.

    Args:
        neuron: str. `"lif"`, `"if"` or `"plif"`.
        tau: float > 1, or `None` for the default. Membrane time constant, in time
            steps; for `"plif"`, the value before training. `"if"` has none.
        surrogate: str. Name of the surrogate derivative.

    Returns:
        Neuron layer.

    Raises:
        ValueError: if a name is unknown, `tau` is out of range, or `"if"` gets one.
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
    """Serialize the template of a neuron.

    Layers store the serialized form, because Keras would track a neuron layer in an
    attribute as a sublayer, which is never built.

    Args:
        neuron: neuron layer, its name (`"lif"`, `"if"`, `"plif"`), or its serialized
            form.

    Returns:
        dict.

    Raises:
        ValueError: if `neuron` is none of these.
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
    """Make a neuron for `layer` from the template `layer.neuron`.

    Args:
        layer: layer that will own the neuron and gives it its dtype policy.
        name: str. Name of the new neuron.
        **changes: constructor arguments that replace those of the template, such as
            `v_threshold`.

    Returns:
        Neuron layer.
    """
    template = keras.saving.deserialize_keras_object(dict(layer.neuron))
    config = {**template.get_config(), **changes}
    config.update(name=name, dtype=layer.dtype_policy)
    return type(template).from_config(config)
