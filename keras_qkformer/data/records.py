"""Find the examples of TFRecord files, and say where one is damaged."""

import os
import struct

import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_qkformer.printable import printable

HEADER = 12
"""Bytes before the content of a record: its length, and the checksum of that."""
_AROUND = HEADER + 4  # A checksum of the content follows it.


def scan_records(path, read, open_file=open):
    """Read a TFRecord file once, and check it.

    Args:
        path: str or path of the file.
        read: function `features -> value` of the features of an example, a mapping from
            names to `tf.train.Feature`, that raises `ValueError` if they are wrong.
        open_file: function that opens a binary file, such as `tf.io.gfile.GFile`.

    Yields:
        Tuples `(offset, size, value)`: where the content of the record starts, in
        bytes, its size in bytes, and what `read` returns.

    Raises:
        ValueError: if a record is cut off, its checksum is wrong, it is no
            `tf.train.Example`, or `read` raises. The message names the file and the
            byte where the record starts.
    """
    path = os.fspath(path)
    places, broken = _places(path, open_file)
    # No record more: tf.data reads ahead, and TensorFlow 2.21 can crash where a damaged
    # length exceeds the file.
    records = tf.data.TFRecordDataset(path).take(len(places)).as_numpy_iterator()
    for offset, size in places:
        try:
            features = tf.train.Example.FromString(next(records)).features.feature
            value = read(features)
        except (tf.errors.OpError, DecodeError, ValueError) as error:
            reason = str(error).partition("\n")[0] or "no tf.train.Example"
            raise _error(path, offset - HEADER, reason) from error
        yield offset, size, value
    if broken is not None:
        raise broken


def single(features, keys, kind):
    """Return the value of a feature, of the first of some names that is there.

    Args:
        features: mapping from names to `tf.train.Feature`.
        keys: tuple of str. Names of the feature.
        kind: str. `"bytes_list"` or `"int64_list"`.

    Returns:
        bytes or int.

    Raises:
        ValueError: if there is no such feature, or it is not one value of this kind.
    """
    for key in keys:
        if key in features:
            values = getattr(features[key], kind).value
            if len(values) != 1:
                what = {"bytes_list": "bytes", "int64_list": "whole number"}[kind]
                raise ValueError(f"the feature {key} is no {what}")
            return values[0]
    names = ", ".join(printable(name, 50) for name in sorted(features)[:9])
    raise ValueError(f"no feature {' or '.join(keys)} but {names or 'none'}")


def _places(path, open_file):
    """Return where records lie, by their lengths, and an error if one does not fit."""
    places = []
    with open_file(path, "rb") as file:
        size, offset = file.seek(0, 2) or file.tell(), 0
        while offset < size:
            file.seek(offset)
            header = file.read(8)
            length = struct.unpack("<Q", header)[0] if len(header) == 8 else size
            if offset + _AROUND + length > size:
                reason = "the record is cut off, or its length wrong"
                return places, _error(path, offset, reason)
            places.append((offset + HEADER, length))
            offset += _AROUND + length
    return places, None


def _error(path, offset, reason):
    return ValueError(
        "A TFRecord must hold whole examples with the features of this data set. "
        f"Received: {path!r}, byte {offset}: {printable(reason, 500)}"
    )
