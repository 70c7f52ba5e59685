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
    names = [name for name in recordings.FORMATS if name not in ("aedat4", "hdf5")][3:]
    counts = fuzzing.run(
        lambda random, folder: recordings.case(random, folder, names), 0, least=700
    )
    assert counts["FAILED"] == 0
    for name in names:
        for ending in ("whole", "cut", "refused"):
            # Damage in these two mostly loses all.
            is_rare = name in ("npz", "mat") and ending == "cut"
            assert is_rare or counts[f"{name} {ending}"] > 2, (name, ending)


def in_a_process(name, least):
    """Run a fuzzer in a process without threads, of which decoders can be forks."""
    (path,) = (path for path in FUZZERS if path.stem == name)
    command = [sys.executable, path, "--seconds", "0", "--least", str(least)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hostile_aedat4_recordings_end_as_they_should():
    pytest.importorskip("aedat", reason="AEDAT 4 needs the extra events")
    told = in_a_process("aedat4", 80)
    for compression in ("none", "lz4", "zstd"):
        for ending in ("whole", "cut", "refused"):
            assert re.search(rf"{compression} {ending} \d", told), told


def test_hostile_hdf5_recordings_end_as_they_should():
    told = in_a_process("hdf5", 80)
    for layout in ("dsec", "metavision"):
        for ending in ("whole", "refused"):  # Damage mostly loses all.
            assert re.search(rf"{layout} {ending} \d", told), told


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
