"""Text from outside: nothing of it acts on a terminal, and its length is bounded."""

import sys

import pytest

from keras_qkformer.printable import printable

pytestmark = pytest.mark.backend_independent


@pytest.mark.parametrize("text", ["", "cat", "C:\\new", "Bär 猫 🐈", "it's 100 %"])
def test_ordinary_text_is_unchanged(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\n1 b", r"a\n1 b"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b2J\x85\x00\r\b", r"\x9b2J\x85\x00\r\x08"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\u2028\u200b\ufeff", r"\u2028\u200b\ufeff"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_acts_on_a_terminal_is_escaped(text, shown):
    assert printable(text) == shown


def test_every_character_becomes_printable_and_can_be_encoded():
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    shown = printable(every, limit=len(every))
    assert shown.isprintable()
    shown.encode()


def test_length_is_bounded():
    assert printable("x" * 10**6, 3) == "xxx... (1000000 characters)"
    assert printable("xxx", 3) == "xxx"
    assert len(printable("\U000e0001" * 10**6)) < 2100
