"""Compilation of a function where the backend, PyTorch, does not compile by itself."""

import contextlib
import functools
import importlib
import inspect
import warnings


@functools.cache
def compiled(function):
    """The function through `torch.compile`, once for each kind of arguments.

    Where that fails, for want of a C++ compiler for instance, it warns once and goes on
    without. `TORCH_COMPILE_DISABLE=1` in the environment switches it off.

    Args:
        function: of tensors, to a tensor or a tuple of tensors; no gradient is taken of
            what happens in it.

    Returns:
        A function like it.
    """
    # By its name, because the models need nothing but Keras.
    torch = importlib.import_module("torch")
    # Sizes as variables: one program for all layers. So each argument comes without
    # what else would make programs differ: a layout of its own, and being a view.
    options = {"dynamic": True}
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        # Before PyTorch 2.13 all kinds of neurons share one limit of programs.
        options["isolate_recompiles"] = True
    with _quietly():
        fast = torch.compile(function, **options)
    first, failed = True, False

    @functools.wraps(function)
    def run(*args):
        nonlocal first, failed
        if failed:
            return function(*args)
        try:
            with _quietly() if first else contextlib.nullcontext():
                result = fast(*(arg.data.contiguous() for arg in args))
        except torch._dynamo.exc.TorchDynamoException as error:
            failed = True
            reason = str(error).strip().splitlines()[0]
            warnings.warn(
                f"PyTorch can't compile the neurons, so they run slower: {reason}",
                stacklevel=2,
            )
            return function(*args)
        first = False
        return result

    return run


@contextlib.contextmanager
def _quietly():
    """Part of what the compiler imports is deprecated, which is none of our users'."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
