"""Recordings that are mutated or made at random, for as long as CI has time."""

import fuzzing
import pytest
from fuzz import recordings

from keras_qkformer.events import byte_stream, nmnist

pytestmark = pytest.mark.backend_independent


def test_hostile_recordings_end_as_they_should():
    """AEDAT 4 takes a process for each reading, so it has few cases here."""
    pytest.importorskip("aedat", reason="AEDAT 4 needs the extra events")
    counts = fuzzing.run(recordings.case, seed=0, least=600)
    assert counts["FAILED"] == 0
    for name in ("aedat2", "aedat31", "nmnist"):
        for ending in ("whole", "cut", "refused"):
            assert counts[f"{name} {ending}"] > 10
    assert sum(counts[f"aedat4 {ending}"] for ending in ("whole", "cut", "refused")) > 3


def no_fault(*_):
    return None


@pytest.mark.parametrize(
    ("place", "name", "format_"),
    [
        (byte_stream.Clock, "fault", "aedat2"),
        (byte_stream.Clock, "fault", "aedat31"),
        (nmnist, "outside", "nmnist"),
    ],
)
def test_fuzzer_sees_mistakes(monkeypatch, place, name, format_):
    monkeypatch.setattr(place, name, no_fault)
    counts = fuzzing.run(
        lambda random, folder: recordings.case(random, folder, (format_,)), 0, least=50
    )
    assert counts["FAILED"] > 0
