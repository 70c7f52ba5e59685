"""What many tests need: arrays, gradients on every backend, the check of a layer."""

import inspect
import socket
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops


def to_numpy(tensor):
    """A NumPy array from a tensor of any backend, also one that wants a gradient."""
    return np.asarray(tensor.detach() if hasattr(tensor, "detach") else tensor)


def free_port():
    """A port of this machine at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def gradients(function, *arrays):
    """Value and gradients of `function(*tensors) -> scalar, anything`.

    Returns:
        `(value, anything, [gradient of each array])`, gradients as NumPy arrays.
    """
    backend = keras.backend.backend()
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value, auxiliary = function(*tensors)
        grads = tape.gradient(value, tensors)
    elif backend == "jax":
        import jax

        argnums = tuple(range(len(tensors)))
        run = jax.value_and_grad(function, argnums, has_aux=True)
        (value, auxiliary), grads = run(*tensors)
    else:
        tensors = [t.detach().clone().requires_grad_(True) for t in tensors]
        value, auxiliary = function(*tensors)
        value.backward()
        grads = [tensor.grad for tensor in tensors]
    return to_numpy(value), auxiliary, [to_numpy(grad) for grad in grads]


def call(layer, x, training):
    """The output of a built layer, which keeps its state.

    On JAX it is compiled, because op by op every operation would be compiled alone.
    """
    if keras.backend.backend() != "jax":
        return layer(x, training=training)
    import jax

    variables = layer.variables

    @jax.jit
    def run(values, x):
        given = zip(variables, values, strict=True)
        with keras.StatelessScope(state_mapping=given) as scope:
            output = layer(x, training=training)
        return output, [scope.get_current_value(v) for v in variables]

    output, values = run([v.value for v in variables], x)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return output


def check_layer(cls, kwargs, input_shape, output_shape, num_weights, at_default=()):
    """Check what must hold for every layer of ours.

    Its configuration makes an equal layer; its shapes are known before it runs; it
    trains in a model, whose file gives the same outputs; it works in 16 bits.

    Args:
        cls: the class of the layer.
        kwargs: dict with a value for every constructor argument, none of them the
            default. A neuron is given as a layer.
        input_shape: tuple, with the batch.
        output_shape: tuple, with the batch.
        num_weights: int. Entries of all weights, moving statistics included.
        at_default: names of arguments that can't leave their default beside the others.

    Raises:
        ValueError: if `kwargs` leaves an argument at its default.
    """
    _check_config(cls, kwargs, at_default)
    check_run(cls, kwargs, input_shape, output_shape, num_weights)


def check_run(cls, kwargs, input_shape, output_shape, num_weights):
    """All of `check_layer` but the configuration: for one more set of arguments."""
    _check_shapes(cls(**kwargs), input_shape, output_shape, num_weights)
    _check_fit_and_file(cls(**kwargs), input_shape)
    for policy in ("mixed_bfloat16", "mixed_float16"):
        _check_mixed_precision(cls(**kwargs, dtype=policy), input_shape)


def _check_config(cls, kwargs, at_default):
    arguments = _constructor_arguments(cls)
    for name, default in arguments.items():
        leaves_default = name in kwargs and kwargs[name] != default
        if leaves_default == (name in at_default):
            raise ValueError(
                "Every constructor argument must be off its default, apart from those "
                f"in at_default. Received for {cls.__name__}: {name}="
                f"{kwargs.get(name, default)!r}, at_default={at_default}"
            )
    layer = cls(**kwargs, name="some_name")
    config = layer.get_config()
    assert set(config) == {*arguments, "name", "trainable", "dtype"}
    for name, value in kwargs.items():
        assert config[name] == keras.saving.serialize_keras_object(value), name
    assert cls.from_config(config).get_config() == config


def _constructor_arguments(cls):
    """Names and defaults, also of the parents that get `**kwargs`, as far as ours."""
    arguments = {}
    for parent in cls.__mro__:
        if not parent.__module__.startswith("keras_qkformer"):
            break
        if "__init__" not in vars(parent):
            continue
        _, *parameters = inspect.signature(parent.__init__).parameters.values()
        kinds = {parameter.kind: parameter for parameter in parameters}
        arguments |= {
            parameter.name: parameter.default
            for parameter in parameters
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return arguments


def _random(shape):
    return np.random.default_rng(0).normal(0.5, 1.0, shape).astype("float32")


def _check_shapes(layer, input_shape, output_shape, num_weights):
    assert layer.compute_output_shape(input_shape) == output_shape
    layer.build(input_shape)
    assert layer.built
    assert layer.count_params() == num_weights
    weights = list(layer.weights)
    for batch in (input_shape[0], None):
        symbolic = layer(keras.KerasTensor((batch, *input_shape[1:])))
        assert symbolic.shape == (batch, *output_shape[1:])
    output = call(layer, _random(input_shape), training=None)
    assert ops.shape(output) == output_shape
    assert symbolic.dtype == keras.backend.standardize_dtype(output.dtype)
    assert [id(w) for w in layer.weights] == [id(w) for w in weights]


def _check_fit_and_file(layer, input_shape):
    # The first Dense learns only if a gradient comes through the layer.
    inputs = keras.Input(input_shape[1:])
    outputs = layer(keras.layers.Dense(input_shape[-1])(inputs))
    outputs = keras.layers.Dense(1)(keras.layers.Flatten()(outputs))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = _random((4, *input_shape[1:]))
    before = [np.array(weight) for weight in model.weights]
    history = model.fit(x, np.ones((4, 1), "float32"), batch_size=4, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    for weight, old in zip(model.weights, before, strict=True):
        # What BatchNorm subtracts again has no gradient.
        assert weight.name == "bias" or np.any(np.array(weight) != old), weight.path
        assert np.isfinite(np.array(weight)).all(), weight.path
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.saving.load_model(path)
    outputs = (to_numpy(call(m, x, training=None)) for m in (loaded, model))
    np.testing.assert_array_equal(*outputs)


def _check_mixed_precision(layer, input_shape):
    layer.build(input_shape)
    for training in (True, False):
        output = call(layer, _random(input_shape), training)
        assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
        assert np.isfinite(to_numpy(ops.cast(output, "float32"))).all()
    for weight in layer.weights:
        assert weight.dtype == "float32", weight.path
        assert np.isfinite(np.array(weight)).all(), weight.path
