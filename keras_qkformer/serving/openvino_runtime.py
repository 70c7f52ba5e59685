"""Runs models in OpenVINO: in float32 wherever they are not of 8 bits."""

import functools

import numpy as np
import openvino as ov

from keras_qkformer.printable import printable

# Without it, processors that can do so round activations to bfloat16.
PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}


@functools.cache
def _core():
    """The one runtime of this process, which is never released.

    Each runtime sets the stack on which signals are handled, and takes it away at its
    end: of two that end in another order, one leaves a stack that is gone, and the next
    Ctrl-C ends in a segmentation fault (OpenVINO 2026.4).
    """
    return ov.Core()


def save(model, path):
    """Write a model, and load it again.

    Args:
        model: `openvino.Model`.
        path: `Path` ending in `.xml`; the weights go beside it.

    Returns:
        `Run`.
    """
    ov.save_model(model, path, compress_to_fp16=False)
    return Run(path)


class Run:
    """A loaded model: called with a dict from names to arrays, it returns another.

    Every item of a batch is computed alone, several at a time on as many cores: with
    shapes that are known the runtime fuses more, and what a layer needs of one item is
    still in the cache. So an answer does not depend on the rest of its batch.

    Args:
        path: str or path of the `.xml` file.
        **options: further properties of OpenVINO's CPU plugin, such as
            `INFERENCE_NUM_THREADS`.

    Attributes:
        inputs: dict from names to dicts with `dtype` and `shape`, whose `None` stands
            for any size.
        outputs: the same of what it returns.

    Raises:
        ValueError: if OpenVINO can't read the model.
    """

    def __init__(self, path, **options):
        self._options = {**PRECISION, **options}
        try:
            self._model = _core().read_model(str(path))
            self.inputs = _described(self._model.inputs)
            self.outputs = _described(self._model.outputs)
            shapes = {k: [1, *entry["shape"][1:]] for k, entry in self.inputs.items()}
            self._model.reshape(shapes)
        except RuntimeError as error:
            raise ValueError(
                f"An OpenVINO model must be an .xml and a .bin file that it can read. "
                f"Received: {str(path)!r}: {printable(str(error), 300)}"
            ) from error

    def __call__(self, inputs):
        count = len(next(iter(inputs.values())))
        if count == 1:
            outputs = self._one(inputs)
            return {each.any_name: outputs[each] for each in self._one.outputs}
        found = [None] * count

        def keep(request, i):
            found[i] = {name: request.get_tensor(name).data.copy() for name in names}

        names = list(self.outputs)
        self._several.set_callback(keep)
        for i in range(count):
            item = {name: values[i : i + 1] for name, values in inputs.items()}
            self._several.start_async(item, i)
        self._several.wait_all()
        return {name: np.concatenate([each[name] for each in found]) for name in names}

    @functools.cached_property
    def _one(self):
        """For a single item, on all cores."""
        return self._compiled("LATENCY")

    @functools.cached_property
    def _several(self):
        """For several items at a time."""
        return ov.AsyncInferQueue(self._compiled("THROUGHPUT"))

    def _compiled(self, hint):
        options = {"PERFORMANCE_HINT": hint, **self._options}
        return _core().compile_model(self._model, "CPU", options)


def _described(ports):
    return {
        each.any_name: {
            "dtype": each.element_type.to_dtype().name,
            "shape": [
                n.get_length() if n.is_static else None for n in each.partial_shape
            ],
        }
        for each in ports
    }
