"""Files that users take for recordings: what each looks like, and what to do."""

import re
from typing import NamedTuple


class OtherFile(NamedTuple):
    """A kind of file that holds no events, or that is not read.

    Attributes:
        pattern: compiled regular expression of bytes, matched at the start of a file.
        kind: str. What such a file is, for "this looks like ...".
        way: str. What gives its events.
    """

    pattern: re.Pattern
    kind: str
    way: str


_FROM_PYTHON = (
    "load its t, x, y and p in Python and save them with "
    "keras_qkformer.events.npz_file.write_npz"
)
_OTHERS = (
    (rb"MATLAB ", "a MATLAB file", f"{_FROM_PYTHON} (7.3: h5py), or with save -v7"),
    (rb"#!AER-DAT1|#!AER-DAT\d", "AEDAT of another version", "save it in jAER or DV"),
    (
        rb"% (?:[^\n]*\n% )*?format (?:HISTO3D|DIFF3D)",
        "frames of a Prophesee camera",
        "record events, in EVT 2.0, 2.1 or 3.0",
    ),
    (
        rb"% ",
        "a Prophesee file that states no format",
        "give the reader of its format, such as "
        "keras_qkformer.events.evt2.read_evt2(path)",
    ),
    (
        rb"SQLite format 3\0|\x89MCAP0\r\n",
        "a ROS 2 bag",
        "convert it to a ROS 1 bag with rosbags-convert",
    ),
    (
        rb"\x1f\x8b|BZh[1-9]|\xfd7zXZ\0|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!|"
        rb"[^\0]{1,100}\0[\0-9a-z ]{156,256}ustar",
        "a compressed file or an archive",
        "unpack it",
    ),
    (rb"\x80[\x02-\x05]", "a pickle, which could run code", _FROM_PYTHON),
    (
        rb"version https://git-lfs",
        "a pointer of Git LFS in place of the file",
        "fetch the file itself, with git lfs pull",
    ),
    (
        rb"\s*<(?:!DOCTYPE|!doctype|html|HTML)",
        "a web page, not the file",
        "download it once more",
    ),
    (
        rb"\x89PNG\r\n|\xff\xd8\xff|GIF8|RIFF....(?:AVI |WEBP)|....ftyp|\x1aE\xdf\xa3",
        "an image or a video",
        "event cameras can be simulated: keras_qkformer.events.camera",
    ),
    (rb"PAR1|ARROW1", "a table of Parquet or Arrow", _FROM_PYTHON),
)
OTHER_FILES = tuple(
    OtherFile(re.compile(pattern, re.DOTALL), kind, way)
    for pattern, kind, way in _OTHERS
)


def describe_other(start):
    """Say what a file looks like that is no recording.

    Args:
        start: bytes. The beginning of the file.

    Returns:
        str, a sentence, empty for an unknown file.

    Example:
    >>> describe_other(b"BZh9")
    'expected a recording, this looks like a compressed file or an archive: unpack it.'
    """
    for other in OTHER_FILES:
        if other.pattern.match(start):
            return f"expected a recording, this looks like {other.kind}: {other.way}."
    return ""
