"""Functions that are compiled for inference."""

import logging

import numpy as np
from harness import to_numpy
from keras import ops

from keras_qkformer.ops.inference import inference_function


def test_many_functions_of_one_line_compile_without_a_notice():
    told, handler = [], logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logger = logging.getLogger("tensorflow")
    logger.addHandler(handler)
    try:
        for factor in range(8):
            times = inference_function(lambda x, factor=factor: factor * x, [])
            for size in (2, 3):
                x = np.arange(size, dtype="float32")
                found = to_numpy(times(ops.convert_to_tensor(x)))
                np.testing.assert_array_equal(found, factor * x)
    finally:
        logger.removeHandler(handler)
    assert told == []
