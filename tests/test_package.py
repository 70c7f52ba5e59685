"""The package as it is installed."""

import os
from pathlib import Path

import pytest

import keras_qkformer


def test_runs_from_where_it_should():
    """Under `make test-wheel` this is the installed wheel, not the checkout."""
    location = os.environ.get("EXPECTED_LOCATION")
    if location is None:
        pytest.skip("only the test of the wheel expects a location")
    assert Path(keras_qkformer.__file__).is_relative_to(location)


def test_has_the_version_that_the_changelog_describes():
    changelog = Path(__file__).parents[1] / "CHANGELOG.md"
    if not changelog.is_file():
        pytest.skip("not in a checkout")
    assert f"## [{keras_qkformer.__version__}]" in changelog.read_text()
