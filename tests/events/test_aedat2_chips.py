"""AEDAT 2.0 of DAVIS cameras: addresses by hand, other words, names of chips."""

import io

import numpy as np
import pytest

from keras_qkformer.events.aedat2 import CHIPS, read_aedat2, write_aedat2
from keras_qkformer.events.byte_stream import (
    DamagedRecordingError,
    DamagedRecordingWarning,
    Details,
)
from keras_qkformer.events.event_array import make_events
from keras_qkformer.events.recording import iter_recording, read_recording

pytestmark = pytest.mark.backend_independent
FRAME, EXTERNAL = 1 << 31, 1 << 10


def davis(x, y, p):
    """The address of an event of a DAVIS346, of the upright pixel."""
    return (259 - y) << 22 | (345 - x) << 12 | p << 11


def recording(words, chip="eu.seebetter.ini.chips.davis.Davis346B"):
    header = f"#!AER-DAT2.0\r\n# AEChip: {chip}\r\n" if chip else "#!AER-DAT2.0\r\n"
    return header.encode() + np.array(words, ">u4").tobytes()


WORDS = [
    (davis(0, 0, 1), 10),
    (FRAME | davis(1, 1, 1), 5),  # Frames and external events have times of their own.
    (EXTERNAL, 99),
    (FRAME | EXTERNAL, 7),
    (davis(345, 259, 0) | 1023 & ~EXTERNAL, 20),
]
EVENTS = [(10, 0, 0, True), (20, 345, 259, False)]


def test_addresses_of_a_davis_by_hand():
    details = Details()
    (events,) = iter_recording(recording(WORDS), details=details)
    assert events.tolist() == EVENTS
    assert details.sensor_size == (260, 346)
    assert details.skipped["samples of frames and IMU"] == 2
    assert details.skipped["external events"] == 1
    sideways = read_recording(recording(WORDS), orientation="spikingjelly")
    assert sideways.tolist() == [(t, y, x, p) for t, x, y, p in EVENTS]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("orientation", ["jaer", "spikingjelly"])
def test_what_is_written_comes_back(chip, orientation):
    height, width = CHIPS[chip][:: 1 if orientation == "jaer" else -1]
    events = make_events([1, 2], [0, width - 1], [height - 1, 0], [1, 0])
    file = io.BytesIO()
    write_aedat2(file, events, chip=chip, orientation=orientation)
    back = read_recording(file.getvalue(), orientation=orientation)
    np.testing.assert_array_equal(back, events)
    beyond = make_events([1], [width], [0], [1])
    with pytest.raises(ValueError, match=f"x must lie from 0 to {width - 1}"):
        write_aedat2(file, beyond, chip=chip, orientation=orientation)


def test_the_first_address_may_begin_as_a_line_of_the_header():
    (y,) = (y for y in range(260) if davis(0, y, 0) >> 24 == ord("#") and not y % 4)
    events = make_events([5, 6], [0, 1], [y, y], [0, 1])
    file = io.BytesIO()
    write_aedat2(file, events, chip="DAVIS346")
    assert file.getvalue()[-16:-15] == b"#"
    np.testing.assert_array_equal(read_recording(file.getvalue()), events)


def test_a_header_without_a_chip_needs_its_name():
    content = recording(WORDS, chip=None)
    with pytest.raises(DamagedRecordingError, match='chip="DAVIS346"') as error:
        read_recording(content)
    assert error.value.offset == len(content) - 8 * len(WORDS)
    assert read_aedat2(content, chip="DAVIS346").tolist() == EVENTS
    with pytest.raises(ValueError, match="chip must be one of DVS128, DAVIS128"):
        read_aedat2(content, chip="DVS1")
    with pytest.raises(DamagedRecordingError, match=r"Received: .*CochleaAMS"):
        read_recording(recording(WORDS, "ch.unizh.ini.jaer.chip.cochlea.CochleaAMS1c"))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ((davis(0, 0, 1) | 346 << 12 | 1 << 12, 30), "sensor of 260x346"),
        ((davis(3, 3, 1), 19), "expected time 20 or later. Received: 19"),
        ((davis(3, 3, 1), 3_600_000_021), "at most 3600000000 microseconds"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 100])
def test_damage_has_the_byte_of_its_word(word, said, size):
    content = recording([*WORDS, word, WORDS[0]])
    with pytest.raises(DamagedRecordingError, match=said) as error:
        list(iter_recording(content, chunk_events=size))
    assert error.value.offset == len(content) - 16
    with pytest.warns(DamagedRecordingWarning):
        assert read_recording(content, strict=False).tolist() == EVENTS
