"""Encodes and decodes the messages of TF Serving that we need, byte by byte.

`tensorflow-serving-api` requires another TensorFlow package than the installed one, and
a client should need no TensorFlow at all. The field numbers come from TF Serving's
public `.proto` files; a test compares the bytes with those of its own package.
"""

import math

import numpy as np

MAX_BYTES = 1 << 30
"""The largest tensor: a short message may claim any shape."""
MOST_AXES = 8
"""What a tensor of a server may have."""
# Type: number in `DataType`, field of `TensorProto` with its values, NumPy type of the
# values if they have a fixed size.
_TYPES = {
    "float32": (1, 5, "<f4"),
    "float64": (2, 6, "<f8"),
    "int32": (3, 7, None),
    "uint8": (4, 7, None),
    "int16": (5, 7, None),
    "int8": (6, 7, None),
    "string": (7, 8, None),
    "int64": (9, 10, None),
    "bool": (10, 11, None),
}
_NAMES = {number: name for name, (number, _, _) in _TYPES.items()}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def field(number, value):
    """Encode one field of a message.

    Args:
        number: int > 0. Number of the field.
        value: int, or the bytes of a string, a message or packed numbers.

    Returns:
        Bytes.
    """
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + bytes(value)


def fields(message):
    """Iterate over the fields of a message.

    Args:
        message: bytes.

    Yields:
        Pairs of a field's number and its value, an int or bytes.

    Raises:
        ValueError: if the bytes are not a whole message.

    Example:
    >>> list(fields(field(1, 300) + field(2, b"text")))
    [(1, 300), (2, b'text')]
    """
    position = 0
    try:
        while position < len(message):
            key, position = _read_varint(message, position)
            kind = key & 7
            if kind == _VARINT:
                value, position = _read_varint(message, position)
            else:
                if kind == _BYTES:
                    size, position = _read_varint(message, position)
                else:
                    size = {_FIXED64: 8, _FIXED32: 4}[kind]
                value = bytes(message[position : position + size])
                position += size
                if len(value) != size:
                    raise ValueError
            yield key >> 3, value
    except (IndexError, KeyError, ValueError) as error:
        raise ValueError(
            f"A message must be whole. Received: {len(message)} bytes, damaged near "
            f"byte {position}"
        ) from error


def encode_tensor(array):
    """Encode an array as a `TensorProto`.

    Args:
        array: array of bool, float32, float64, int8 to int64 or uint8, or of strings
            as str or bytes objects.

    Returns:
        Bytes.
    """
    array = np.asarray(array)
    is_text = array.dtype.kind in "OSU"
    number, _, _ = _TYPES["string" if is_text else array.dtype.name]
    shape = b"".join(field(2, field(1, size)) for size in array.shape)
    head = field(1, number) + field(2, shape)
    if is_text:
        texts = (x if isinstance(x, bytes) else str(x).encode() for x in array.flat)
        return head + b"".join(field(8, text) for text in texts)
    return head + field(4, np.ascontiguousarray(array).tobytes())


def fill_tensor(value, shape):
    """Encode an array that is one value everywhere as a short `TensorProto`.

    Args:
        value: bytes, or a NumPy number of a type that `encode_tensor` takes.
        shape: ints.

    Returns:
        Bytes.
    """
    array = np.asarray(value)
    text = array.dtype.kind in "OSU"
    number, place, code = _TYPES["string" if text else array.dtype.name]
    if text:
        content = value
    else:
        content = array.astype(code).tobytes() if code else int(array)
    sizes = b"".join(field(2, field(1, size)) for size in shape)
    return field(1, number) + field(2, sizes) + field(place, content)


def decode_tensor(message, max_bytes=MAX_BYTES):
    """Decode a `TensorProto`.

    Args:
        message: bytes.
        max_bytes: int > 0. The largest array, with 8 bytes per string.

    Returns:
        Array; strings are bytes objects.

    Raises:
        ValueError: if the message is damaged, of a type that `encode_tensor` does not
            take, or too large.
    """
    kind, shape, content = None, [], None
    for number, value in fields(message):
        if number == 1:
            kind = _NAMES.get(value)
        elif number == 2:
            shape = [_size(size) for n, size in fields(value) if n == 2]
        elif number == 4:
            content = value
    if kind is None:
        raise ValueError("A tensor must be of a type that signatures have.")
    _, place, code = _TYPES[kind]
    if content is not None:
        flat = np.frombuffer(content, np.dtype(kind).newbyteorder("<"))
    else:
        # Read again rather than kept: a field of two bytes would take a hundred.
        parts = (_values(v, code, kind) for n, v in fields(message) if n == place)
        dtype = object if kind == "string" else kind
        flat = np.array([x for part in parts for x in part], dtype)
    size = math.prod(shape)
    if len(shape) > MOST_AXES or size * flat.dtype.itemsize > max_bytes:
        raise ValueError(
            f"A tensor must have at most {max_bytes} bytes and {MOST_AXES} axes. "
            f"Received: shape {shape[:8]}"
        )
    if len(flat) < size:  # The last value repeats.
        if not len(flat):
            flat = np.array([b"" if kind == "string" else 0], flat.dtype)
        rest = np.repeat(flat[-1:], size - len(flat))
        flat = np.concatenate([flat, rest])
    return flat.reshape(shape)


def encode_predict_request(model, signature, tensors, version=None, label=None):
    """Encode a `PredictRequest`.

    Args:
        model: str. The model's name.
        signature: str.
        tensors: dict from names of inputs to arrays, or to `TensorProto` bytes.
        version: int, or `None` for the newest version.
        label: str, or `None`. Label of a version, instead of its number.

    Returns:
        Bytes.
    """
    spec = model_spec(model, version, signature, label)
    return field(1, spec) + b"".join(_entry(2, *item) for item in tensors.items())


def model_spec(model, version=None, signature=None, label=None):
    """Encode a `ModelSpec`.

    Args:
        model: str. The model's name.
        version: int or `None`.
        signature: str or `None`.
        label: str or `None`.

    Returns:
        Bytes.
    """
    spec = field(1, model.encode())
    if version is not None:
        spec += field(2, field(1, version))
    if signature is not None:
        spec += field(3, signature.encode())
    if label is not None:
        spec += field(4, label.encode())
    return spec


def decode_predict_request(message):
    """Decode a `PredictRequest`.

    Args:
        message: bytes.

    Returns:
        `(model, version, signature, tensors, label)`, see `encode_predict_request`.
        `tensors` is a dict from names to arrays.

    Raises:
        ValueError: if the message is damaged.
    """
    spec, tensors = {}, {}
    for number, value in fields(message):
        if number == 1:
            spec = dict(fields(value))
        elif number == 2:
            name, tensor = _read_entry(value)
            tensors[name] = decode_tensor(tensor)
    version = dict(fields(spec[2])).get(1, 0) if 2 in spec else None
    label = spec[4].decode() if 4 in spec else None
    signature = spec.get(3, b"serving_default").decode()
    return spec.get(1, b"").decode(), version, signature, tensors, label


def encode_predict_response(model, version, signature, tensors):
    """Encode a `PredictResponse`.

    Args:
        model: str. The model's name.
        version: int.
        signature: str.
        tensors: dict from names of outputs to arrays.

    Returns:
        Bytes.
    """
    spec = field(2, model_spec(model, version, signature))
    return spec + b"".join(_entry(1, *item) for item in tensors.items())


def decode_predict_response(message, max_bytes=MAX_BYTES):
    """Decode the outputs of a `PredictResponse`.

    Args:
        message: bytes.
        max_bytes: int > 0. The largest size of all outputs, see `decode_tensor`.

    Returns:
        Dict from names to arrays.

    Raises:
        ValueError: if the message is damaged, or has an output twice.
    """
    outputs = {}
    for number, value in fields(message):
        if number != 1:
            continue
        name, tensor = _read_entry(value)
        if name in outputs:
            raise ValueError("A message must have each output once.")
        outputs[name] = decode_tensor(tensor, max_bytes)
        max_bytes -= outputs[name].nbytes
    return outputs


# `ModelVersionStatus.State`.
STATES = {10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}


def decode_status(message):
    """Decode the state of each version from a `GetModelStatusResponse`.

    Args:
        message: bytes.

    Returns:
        Dict from versions to states, such as `{1: "AVAILABLE"}`.

    Raises:
        ValueError: if the message is damaged.
    """
    versions = (dict(fields(value)) for number, value in fields(message) if number == 1)
    return {v.get(1, 0): STATES.get(v.get(2, 0), "UNKNOWN") for v in versions}


def decode_signatures(message):
    """Decode the signatures of a model from a `GetModelMetadataResponse`.

    Args:
        message: bytes.

    Returns:
        Dict from signatures to dicts with `inputs` and `outputs`, lists of names.

    Raises:
        ValueError: if the message is damaged.
    """
    found = {}
    for number, value in fields(message):
        if number != 2:
            continue
        _, any_message = _read_entry(value)
        for _, entry in fields(dict(fields(any_message))[2]):
            name, definition = _read_entry(entry)
            kinds = {"inputs": [], "outputs": []}
            for place, part in fields(definition):
                if place in (1, 2):
                    kinds["inputs" if place == 1 else "outputs"].append(
                        _read_entry(part)[0]
                    )
            if not name.startswith("__"):
                found[name] = {kind: sorted(names) for kind, names in kinds.items()}
    return found


def prediction_log(request):
    """Wrap a `PredictRequest` in a `PredictionLog`, the record of a warm-up file.

    Args:
        request: bytes of a `PredictRequest`.

    Returns:
        Bytes.
    """
    return field(6, field(1, request))


def request_of_log(message):
    """Return the `PredictRequest` of a `PredictionLog`.

    Args:
        message: bytes.

    Returns:
        Bytes.

    Raises:
        ValueError: if the message is damaged or holds something else.
    """
    try:
        return dict(fields(dict(fields(message))[6]))[1]
    except KeyError as error:
        raise ValueError("A warm-up record must hold a PredictRequest.") from error


def _entry(number, name, tensor):
    if not isinstance(tensor, bytes):
        tensor = encode_tensor(tensor)
    return field(number, field(1, name.encode()) + field(2, tensor))


def _size(message):
    """The length of an axis, of a `TensorShapeProto.Dim`."""
    size = dict(fields(message)).get(1, 0)
    if not isinstance(size, int) or size >= 1 << 63:
        raise ValueError("An axis of a tensor must have a length from 0 on.")
    return size


def _read_entry(message):
    parts = dict(fields(message))
    return parts.get(1, b"").decode(), parts.get(2, b"")


def _values(value, code, kind):
    """Decode the values of one field of a `TensorProto`, packed or single."""
    if kind == "string":
        return [value]
    if code is not None:
        return np.frombuffer(value, code)
    numbers = []
    if isinstance(value, int):
        numbers.append(value)
    else:
        position = 0
        while position < len(value):
            number, position = _read_varint(value, position)
            numbers.append(number)
    # Negative numbers are encoded as two's complement of 64 bits.
    return [number - 2**64 if number >= 2**63 else number for number in numbers]


def _varint(value):
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def _read_varint(message, position):
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError


def pad_events(recordings):
    """Return the inputs of `predict_events` for recordings of any lengths.

    Args:
        recordings: list of structured arrays, or dicts of arrays, `(events,)` with
            `t` in microseconds, `x`, `y` and `p`.

    Returns:
        Dict of arrays: `t` int64 and `x`, `y`, `p` int32, all `(recordings, events)`
        and padded with zeros to the longest recording; `num_events` int32
        `(recordings,)`.
    """
    counts = [len(events["t"]) for events in recordings]
    inputs = {}
    for name in "txyp":
        dtype = "int64" if name == "t" else "int32"
        inputs[name] = np.zeros((len(counts), max(counts)), dtype)
        for row, events, count in zip(inputs[name], recordings, counts, strict=True):
            row[:count] = events[name]
    return {**inputs, "num_events": np.array(counts, "int32")}
