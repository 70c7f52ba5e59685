"""Recordings that are mutated or made at random, for as long as CI has time."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import fuzzing
import pytest
from fuzz import recordings

from keras_qkformer.events import byte_stream, event_stream, nmnist

pytestmark = pytest.mark.backend_independent


FUZZERS = sorted((Path(__file__).parents[1] / "fuzz").glob("*.py"))


def test_hostile_recordings_end_as_they_should():
    names = "aedat2", "aedat31", "nmnist"
    counts = fuzzing.run(
        lambda random, folder: recordings.case(random, folder, names), 0, least=600
    )
    assert counts["FAILED"] == 0
    for name in names:
        for ending in ("whole", "cut", "refused"):
            assert counts[f"{name} {ending}"] > 10


def test_hostile_recordings_of_other_cameras_end_as_they_should():
    """HDF5 takes a process for each reading, so it has few cases here."""
    names = [name for name in recordings.FORMATS if name != "aedat4"][3:]
    counts = fuzzing.run(
        lambda random, folder: recordings.case(random, folder, names), 0, least=700
    )
    assert counts["FAILED"] == 0
    for name in names:
        for ending in ("whole", "cut", "refused"):
            # Damage in these two mostly loses all.
            is_rare = name == "hdf5" or (name in ("npz", "mat") and ending == "cut")
            assert is_rare or counts[f"{name} {ending}"] > 2, (name, ending)


def test_hostile_aedat4_recordings_end_as_they_should():
    """In a process without threads, of which decoders can be forks."""
    pytest.importorskip("aedat", reason="AEDAT 4 needs the extra events")
    command = [sys.executable, FUZZERS[0], "--seconds", "0", "--least", "80"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for compression in ("none", "lz4", "zstd"):
        for ending in ("whole", "cut", "refused"):
            assert re.search(rf"{compression} {ending} \d", done.stdout), done.stdout


@pytest.mark.parametrize("path", FUZZERS, ids=lambda path: path.stem)
def test_make_fuzz_can_run_every_fuzzer(path, capsys):
    """As `make fuzz` does, with seconds and a seed."""
    main = importlib.import_module(f"fuzz.{path.stem}").main
    for arguments, wrong in (
        (["--seconds", "1", "--seed", "x"], "--seed: invalid int value: 'x'"),
        (["--seed", "1", "--seconds", "x"], "--seconds: invalid float value: 'x'"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert wrong in capsys.readouterr().err


def no_fault(*_):
    return None


@pytest.mark.parametrize(
    ("place", "name", "format_"),
    [
        (byte_stream.Clock, "fault", "aedat2"),
        (byte_stream.Clock, "fault", "aedat31"),
        (nmnist, "outside", "nmnist"),
        (byte_stream.Clock, "fault", "dat"),
        (event_stream, "outside", "es"),
    ],
)
def test_fuzzer_sees_mistakes(monkeypatch, place, name, format_):
    monkeypatch.setattr(place, name, no_fault)
    counts = fuzzing.run(
        lambda random, folder: recordings.case(random, folder, (format_,)), 0, least=50
    )
    assert counts["FAILED"] > 0
