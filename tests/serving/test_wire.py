"""The messages of TF Serving, byte by byte."""

import numpy as np
import pytest

from keras_qkformer.serving import wire

pytestmark = pytest.mark.backend_independent

ARRAYS = {
    "float32": np.array([[1.5, -2.0], [0.0, 3e30]], "float32"),
    "float64": np.array([1e-300]),
    "int64": np.array([[-1], [2**62]], "int64"),
    "int32": np.array(7, "int32"),
    "uint8": np.zeros((2, 0, 3), "uint8"),
    "bool": np.array([True, False]),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_tensors_are_those_of_tensorflow(name):
    import tensorflow as tf
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    array = ARRAYS[name]
    theirs = tf.make_tensor_proto(array)
    ours = TensorProto.FromString(wire.encode_tensor(array))
    np.testing.assert_array_equal(tf.make_ndarray(ours), array)
    for message in (theirs.SerializeToString(), wire.encode_tensor(array)):
        decoded = wire.decode_tensor(message)
        assert decoded.dtype == array.dtype
        np.testing.assert_array_equal(decoded, array)
    # A server may answer value by value.
    theirs = TensorProto(dtype=theirs.dtype, tensor_shape=theirs.tensor_shape)
    field = {"float32": "float", "float64": "double", "uint8": "int", "int32": "int"}
    getattr(theirs, f"{field.get(name, name)}_val").extend(array.reshape(-1).tolist())
    np.testing.assert_array_equal(wire.decode_tensor(theirs.SerializeToString()), array)


def test_texts_keep_their_zero_bytes():
    texts = np.empty((2, 2), object)
    texts[:] = [[b"a\0", b""], [b"\xff", b"\0\0"]]
    assert wire.decode_tensor(wire.encode_tensor(texts)).tolist() == texts.tolist()


def test_a_filled_tensor_is_short_and_whole():
    message = wire.fill_tensor(np.float32(0.5), (8, 224, 224, 3))
    assert len(message) < 40
    array = wire.decode_tensor(message)
    assert array.shape == (8, 224, 224, 3)
    assert (array == 0.5).all()


@pytest.mark.parametrize("message", [b"\x08", b"\x0a\x05abc", b"\x0b", b"\xff" * 20])
def test_a_damaged_message_is_refused(message):
    with pytest.raises(ValueError, match="A message must be whole"):
        list(wire.fields(message))


def output(name, *sizes):
    """One output of a response: zeros of a shape, whose values need not be there."""
    shape = b"".join(wire.field(2, wire.field(1, size)) for size in sizes)
    tensor = wire.field(1, 1) + wire.field(2, shape)
    return wire.field(1, wire.field(1, name) + wire.field(2, tensor))


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (output(b"a", b"x", 1 << 20), "length from 0 on"),
        (output(b"a", *[1] * 9), "8 axes"),
        (output(b"a", 600) + output(b"b", 600), "at most 1696 bytes"),
        (output(b"a", 1) * 2, "each output once"),
    ],
)
def test_a_short_message_does_not_become_a_large_one(message, said):
    with pytest.raises(ValueError, match=said):
        wire.decode_predict_response(message, max_bytes=4096)


def test_a_record_without_request_is_refused():
    with pytest.raises(ValueError, match="must hold a PredictRequest"):
        wire.request_of_log(wire.field(3, b""))


def test_messages_are_those_of_the_serving_api():
    api = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    log = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    import tensorflow as tf

    array = ARRAYS["float32"]
    request = api.PredictRequest()
    request.model_spec.name = "digits"
    request.model_spec.version.value = 3
    request.model_spec.signature_name = "predict_pixels"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(array))
    ours = wire.encode_predict_request("digits", "predict_pixels", {"images": array}, 3)
    assert ours == request.SerializeToString(deterministic=True)
    record = log.PredictionLog()
    record.predict_log.request.CopyFrom(request)
    assert wire.prediction_log(ours) == record.SerializeToString(deterministic=True)
    assert wire.request_of_log(record.SerializeToString()) == ours
    model, version, signature, tensors, label = wire.decode_predict_request(ours)
    assert (model, version, signature, label) == ("digits", 3, "predict_pixels", None)
    np.testing.assert_array_equal(tensors["images"], array)
