"""Runs models in OpenVINO: in float32 wherever they are not of 8 bits."""

import functools

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
        options = {**PRECISION, **options}
        try:
            self._compiled = _core().compile_model(str(path), "CPU", options)
        except RuntimeError as error:
            raise ValueError(
                f"An OpenVINO model must be an .xml and a .bin file that it can read. "
                f"Received: {str(path)!r}: {printable(str(error), 300)}"
            ) from error
        self.inputs = _described(self._compiled.inputs)
        self.outputs = _described(self._compiled.outputs)

    def __call__(self, inputs):
        outputs = self._compiled(inputs)
        return {each.any_name: outputs[each] for each in self._compiled.outputs}


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
