"""A function of tensors and Keras variables as one compiled program of PyTorch.

Dynamo, the front end of `torch.compile`, breaks the graph in every Keras layer.
AOTAutograd needs no front end: it runs the function once on tensors without memory, and
sees nothing but operations, forward and backward.
"""

import contextlib
import functools
import threading
import warnings

import keras
import torch
import torch._functorch.config
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

# Threads may predict with one model at the same time; one of them builds.
_building = threading.RLock()
_thread = threading.local()


def is_traced():
    """Return whether this thread traces a program, on tensors without memory."""
    return getattr(_thread, "is_tracing", False)


def compile_graphs(module, inputs):
    """Compile the graphs of a module with Inductor, the back end of `torch.compile`.

    Args:
        module: `torch.nn.Module` without parameters that returns a list of tensors.
        inputs: list of its tensors, without memory. If one of them requires a gradient
            and gradients are enabled, the backward graph is compiled too.

    Returns:
        Function of tensors like `inputs` that returns what the module does.
    """
    from torch._inductor.compile_fx import compile_fx

    return compile_fx(module, inputs)


class Program:
    """A function as one program, for inputs of one shape and dtype each.

    Variables are tensors that the program changes in place, so Keras's variables hold
    the state between two calls. The random masks of Dropout are drawn before the
    program starts, from the generators of the layers, and are inputs of it.

    Args:
        function: `function(*inputs)` that returns a list of tensors.
        variables: list of all `keras.Variable`s that the function reads or assigns.
        inputs: list of tensors: an example of the inputs.
        is_trained: bool. Whether the first output is differentiable with respect to the
            trainable variables. If not, there is no backward graph.
        dropouts: list of the `keras.layers.Dropout` layers that drop in the function.

    Raises:
        Exception: whatever stops the trace or the compiler. No variable has changed.
    """

    def __init__(self, function, variables, inputs, is_trained=False, dropouts=()):
        self._variables = variables
        self._is_trained = is_trained
        count = len(variables)
        # Inductor caches only what it compiles with a `ShapeEnv`. Values of tensors are
        # refused as without one: in a graph, a device would have to wait for them.
        fake = FakeTensorMode(
            allow_non_fake_inputs=True, shape_env=ShapeEnv(allow_scalar_outputs=False)
        )

        def emptied(tensors):
            return [fake.from_tensor(x, static_shapes=True) for x in tensors]

        with _building, quietly(), torch.set_grad_enabled(is_trained):
            values, inputs = emptied(self._values()), emptied(inputs)
            with fake:
                self._masks = _find_masks(
                    functools.partial(_on_tensors, function, variables, values, inputs),
                    dropouts,
                )

            def traced(*tensors):
                values, inputs = tensors[:count], iter(tensors[count:])
                masks = [next(inputs) for _ in self._masks]
                with _dropping(dropouts, functools.partial(_apply_mask, iter(masks))):
                    return _on_tensors(function, variables, values, inputs)

            # To draw the masks of the example would advance the generators.
            masks = emptied(_ones(*mask).bool() for mask in self._masks)
            self._run = _compile_now(traced, [*values, *masks, *inputs])

    def __call__(self, *inputs):
        """Run the program on tensors like the example, and return its outputs."""
        masks = [_draw(*mask) for mask in self._masks]
        with torch.set_grad_enabled(self._is_trained):
            return self._run(*self._values(), *masks, *inputs)

    def _values(self):
        values = [variable.value for variable in self._variables]
        # A parameter that is only assigned must not ask for a gradient.
        return values if self._is_trained else [value.detach() for value in values]


class _Module(torch.nn.Module):
    """What AOTAutograd takes: a function as a module."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


def _compile_now(function, tensors):
    """Compile a function with its backward graph, for which PyTorch would wait.

    If that one failed in the first backward pass, the forward pass would have changed
    the moving statistics already.
    """
    config = torch._functorch.config
    now = {"force_non_lazy_backward_lowering": True}
    # PyTorch before 2.13 need not have this option.
    with config.patch({k: v for k, v in now.items() if hasattr(config, k)}):
        return compile_graphs(_Module(function), tensors)


def _on_tensors(function, variables, values, inputs):
    """Run a function with tensors in place of variables; change these in place.

    Raises:
        NotImplementedError: if the function has an effect beyond the variables.
    """
    given = list(zip(variables, values, strict=True))
    with _tracing(), keras.StatelessScope(given, collect_losses=True) as scope:
        before = [scope.get_current_value(variable) for variable in variables]
        outputs = function(*inputs)
        after = [scope.get_current_value(variable) for variable in variables]
    if scope.losses:
        raise NotImplementedError("a layer adds a loss of its own")
    if len(scope.state_mapping) > len(variables):
        raise NotImplementedError("a variable that is not the model's is assigned")
    with torch.no_grad():
        for value, old, new in zip(values, before, after, strict=True):
            if new is not old:
                value.copy_(new)
    return outputs


def _find_masks(run, dropouts):
    """Call `run`, in which the layers drop nothing, to list the masks that they need.

    Returns:
        List of `(layer, shape)` in the order of the calls.
    """
    masks = []

    def note(layer, inputs, training=False):
        if training:
            shape = layer.noise_shape or (None,) * len(inputs.shape)
            pairs = zip(shape, inputs.shape, strict=True)
            masks.append((layer, tuple(size or own for size, own in pairs)))
        return inputs

    if dropouts:
        with _dropping(dropouts, note):
            run()
    return masks


def _ones(layer, shape):
    return torch.ones(shape, device=layer.seed_generator.state.value.device)


def _draw(layer, shape):
    """Draw which values a Dropout layer keeps, as its own call would."""
    ones, seed = _ones(layer, shape), layer.seed_generator
    return keras.random.dropout(ones, layer.rate, layer.noise_shape, seed) != 0


def _apply_mask(masks, layer, inputs, training=False):
    """Call a Dropout layer with the next of the masks in place of a random one."""
    if not training:
        return inputs
    kept = inputs / (1.0 - layer.rate)
    return torch.where(next(masks), kept, torch.zeros_like(inputs))


@contextlib.contextmanager
def _dropping(layers, call):
    """Replace the calls of Dropout layers by `call(layer, inputs, training)`."""
    for layer in layers:
        layer.call = functools.partial(call, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call


@contextlib.contextmanager
def _tracing():
    before = is_traced()
    _thread.is_tracing = True
    try:
        yield
    finally:
        _thread.is_tracing = before


@contextlib.contextmanager
def quietly():
    """Hide deprecation warnings of the compiler's imports: users can't act on them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
