"""A Keras model whose steps are compiled on every backend."""

from keras_qkformer.models.spiking_model import SpikingModel
from keras_qkformer.ops.by_backend import by_backend


class CompiledModel(SpikingModel):
    """`keras.Model` whose `jit_compile` works on PyTorch.

    Keras compiles on PyTorch through Dynamo, which breaks these models into dozens of
    pieces and takes minutes. Here the step is one program, on GPUs by default, and on
    CPUs with `jit_compile=True`. See `ops/program_on_torch.py`.

    Attributes:
        examples_are_independent: bool. Whether, in inference, an output does not depend
            on the other examples of the batch.
    """

    examples_are_independent = True

    def _resolve_auto_jit_compile(self):
        return compiles_by_default(self, super()._resolve_auto_jit_compile())

    def _should_torch_compile(self):
        return False

    def train_step(self, *args):
        return train_step(self, super().train_step, *args)

    def test_step(self, *args):
        return test_step(self, super().test_step, *args)

    def predict_step(self, *args):
        return predict_step(self, super().predict_step, *args)


@by_backend
def compiles_by_default(model, keras_default):
    """Return whether `jit_compile="auto"` compiles a model.

    Args:
        model: `CompiledModel`.
        keras_default: bool. What Keras would do.
    """
    return keras_default


@by_backend
def train_step(model, plain, *args):
    """`CompiledModel.train_step`.

    Args:
        model: `CompiledModel`.
        plain: `keras.Model.train_step`, bound to it.
        *args: those of Keras on this backend.

    Returns:
        What `plain(*args)` returns.
    """
    return plain(*args)


@by_backend
def test_step(model, plain, *args):
    """`CompiledModel.test_step`.

    Args:
        model: `CompiledModel`.
        plain: `keras.Model.test_step`, bound to it.
        *args: those of Keras on this backend.

    Returns:
        What `plain(*args)` returns.
    """
    return plain(*args)


@by_backend
def predict_step(model, plain, *args):
    """`CompiledModel.predict_step`.

    Args:
        model: `CompiledModel`.
        plain: `keras.Model.predict_step`, bound to it.
        *args: those of Keras on this backend.

    Returns:
        What `plain(*args)` returns.
    """
    return plain(*args)
