"""`examples.npz` of a workdir or bundle, whole and damaged."""

import zipfile

import numpy as np
import pytest

from keras_qkformer.kept_examples import read_examples
from keras_qkformer.mistakes import is_mistake

pytestmark = pytest.mark.backend_independent
WHOLE = {
    "images": np.arange(12, dtype="uint8").reshape(3, 2, 2, 1),
    "logits": np.arange(6.0).reshape(3, 2),
}


def test_arrays_come_back(tmp_path):
    np.savez_compressed(tmp_path / "examples.npz", **WHOLE)
    found = read_examples(tmp_path / "examples.npz", WHOLE)
    assert found.keys() == WHOLE.keys()
    for name, array in WHOLE.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": WHOLE["images"]}, "an array logits is missing"),
        (WHOLE | {"logits": WHOLE["logits"][:2]}, "arrays of different lengths"),
        (WHOLE | {"logits": np.array([{}, {}, {}])}, "array logits.npy is damaged"),
        (WHOLE | {"logits": np.array(["a", "b", "c"])}, "is not of numbers"),
        (WHOLE | {"logits": np.float64(3)}, "arrays of different lengths"),
        ({"images": np.uint8(1), "logits": np.float64(3)}, "arrays without a row"),
        ({k: v[:0] for k, v in WHOLE.items()}, "arrays without a row"),
        ({}, "an array images is missing"),
    ],
)
def test_other_arrays_are_a_mistake_told(tmp_path, arrays, said):
    path = tmp_path / "examples.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=said) as told:
        read_examples(path, WHOLE)
    assert is_mistake(told.value) and str(path) in str(told.value)


def test_no_damage_of_a_byte_or_of_the_length_is_more_than_told(tmp_path):
    path = tmp_path / "examples.npz"
    np.savez_compressed(path, **WHOLE)
    content, told = path.read_bytes(), 0
    changed = [content[:n] for n in range(len(content))]
    changed += [
        content[:n] + bytes([content[n] ^ 1 << bit]) + content[n + 1 :]
        for n in range(0, len(content), 3)
        for bit in (0, 7)
    ]
    for data in changed:
        path.write_bytes(data)
        try:
            found = read_examples(path, WHOLE)
        except ValueError as error:
            assert is_mistake(error)
            told += 1
            continue
        for name, array in WHOLE.items():  # A byte that says nothing about the arrays.
            np.testing.assert_array_equal(found[name], array)
    assert told > len(content)


@pytest.mark.parametrize(
    "header", [b"{'descr': '<f4', 1: 2}", b"{[]: 1}", b"(" * 300, b"{'descr': []}"]
)
def test_a_header_that_is_none_is_damage(tmp_path, header):
    path = tmp_path / "examples.npz"
    entry = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", entry)
    with pytest.raises(ValueError, match=r"array images\.npy is damaged") as told:
        read_examples(path, ())
    assert is_mistake(told.value)
