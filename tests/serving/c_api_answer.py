"""Ask a SavedModel through TensorFlow's C API alone: no Python of TensorFlow.

    python c_api_answer.py LIBRARIES VERSION INPUT OUTPUT IMAGES.npy LOGITS.npy

INPUT and OUTPUT are names of tensors such as `predict_pixels_images:0`. Only this runs
what a server in C or C++ runs: the loader, and a session.
"""

import ctypes
import sys

import numpy as np

FLOAT = 1


class Output(ctypes.Structure):
    """`TF_Output`: an operation and which of its outputs."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


def main(libraries, version, input_name, output_name, images_file, logits_file):
    """Load, run once, write the logits."""
    ctypes.CDLL(f"{libraries}/libtensorflow_framework.so.2", ctypes.RTLD_GLOBAL)
    api = ctypes.CDLL(f"{libraries}/libtensorflow_cc.so.2", ctypes.RTLD_GLOBAL)
    for name in (
        "TF_NewStatus",
        "TF_NewGraph",
        "TF_NewSessionOptions",
        "TF_LoadSessionFromSavedModel",
        "TF_GraphOperationByName",
        "TF_AllocateTensor",
        "TF_TensorData",
    ):
        getattr(api, name).restype = ctypes.c_void_p
    api.TF_Message.restype = ctypes.c_char_p
    api.TF_TensorByteSize.restype = ctypes.c_size_t
    api._ZN10tensorflow21DisableXlaCompilationEv()
    status = ctypes.c_void_p(api.TF_NewStatus())
    graph = ctypes.c_void_p(api.TF_NewGraph())

    def check():
        if api.TF_GetCode(status):
            sys.exit(api.TF_Message(status).decode())

    tags = (ctypes.c_char_p * 1)(b"serve")
    session = ctypes.c_void_p(
        api.TF_LoadSessionFromSavedModel(
            ctypes.c_void_p(api.TF_NewSessionOptions()),
            None,
            version.encode(),
            tags,
            1,
            graph,
            None,
            status,
        )
    )
    check()

    def output(name):
        operation, _, index = name.partition(":")
        found = api.TF_GraphOperationByName(graph, operation.encode())
        return Output(found, int(index))

    images = np.load(images_file)
    shape = (ctypes.c_int64 * images.ndim)(*images.shape)
    tensor = api.TF_AllocateTensor(
        FLOAT, shape, images.ndim, ctypes.c_size_t(images.nbytes)
    )
    ctypes.memmove(
        api.TF_TensorData(ctypes.c_void_p(tensor)), images.tobytes(), images.nbytes
    )
    answers = (ctypes.c_void_p * 1)()
    api.TF_SessionRun(
        session,
        None,
        (Output * 1)(output(input_name)),
        (ctypes.c_void_p * 1)(tensor),
        1,
        (Output * 1)(output(output_name)),
        answers,
        1,
        None,
        0,
        None,
        status,
    )
    check()
    answer = ctypes.c_void_p(answers[0])
    size = api.TF_TensorByteSize(answer)
    content = ctypes.string_at(api.TF_TensorData(answer), size)
    logits = np.frombuffer(content, "float32").reshape(len(images), -1)
    np.save(logits_file, logits)


if __name__ == "__main__":
    main(*sys.argv[1:])
