"""JSON files that are read back: a wrong one ends in an error that says what, where."""

import json

import pytest

from keras_qkformer import forms
from keras_qkformer.json_files import LIMIT, parse_json, read_json

pytestmark = pytest.mark.backend_independent

DIGEST = "0" * 64
GOOD = {
    forms.Manifest: {"format": 1, "files": {"a/b": {"size": 1, "sha256": DIGEST}}},
    forms.PresetMetadata: {"class_names": ["cat"], "epoch": 3, "more": {"a": [1]}},
    forms.State: {
        "epoch": 1,
        "weights": "epoch-0001.weights.h5",
        "random": [[1, 2]],
        "best": {"epoch": 1, "val_accuracy": 0.5, "val_loss": 2.0},
        "history": {"loss": [2.5]},
    },
    forms.RecipeFile: {"recipe": {}},
    forms.MetricsLine: {"epoch": 1, "loss": 2.5},
    forms.Results: {
        "test": {"accuracy": 0.5, "examples": 2, "loss": 2.5},
        "test_split": "test",
        "best": {"epoch": 1, "val_accuracy": 0.5, "val_loss": 2.0},
        "history": {"loss": [2.5]},
        "parameters": 3,
        "command": "fit",
        "versions": {"keras": "3"},
        "machine": "here",
        "commit": None,
    },
    forms.BundleMetadata: {
        "class_names": ["cat"],
        "signatures": {"a": {"inputs": {"x": {"dtype": "f", "shape": [None, 1]}}}},
        "batch_sizes": [1],
        "weights": "int8",
        "frames": None,
    },
}
GOOD[forms.BundleMetadata]["signatures"]["a"]["outputs"] = {}
every_form = pytest.mark.parametrize("form", GOOD, ids=lambda form: form.__name__)
# For each form, changes of one field that must be refused.
WRONG = [
    (forms.Manifest, {"format": 2}, "format"),
    (forms.Manifest, {"more": 1}, "more"),
    *(
        (forms.Manifest, {"files": {name: {"size": 1, "sha256": DIGEST}}}, "files")
        for name in (
            "../a",
            "/a",
            "a/../b",
            ".a",
            "a//b",
            "a\nb",
            "a\\b",
            "",
            "a" * 999,
        )
    ),
    *(
        (forms.Manifest, {"files": {"a": {"size": 1, "sha256": DIGEST, **entry}}}, "a")
        for entry in ({"size": -1}, {"size": "1"}, {"size": 10**30}, {"sha256": "AB"})
    ),
    (forms.PresetMetadata, {"class_names": "cat"}, "class_names"),
    (forms.PresetMetadata, {"class_names": [1]}, "class_names.0"),
    (forms.PresetMetadata, {"epoch": "x"}, "epoch"),
    (forms.PresetMetadata, {"orientation": "up"}, "orientation"),
    (forms.PresetMetadata, {"recipe": {"data": {"sensor_size": [1]}}}, "recipe.data"),
    (forms.PresetMetadata, {"recipe": {"data": {"frames_by": 3}}}, "recipe.data"),
    (forms.PresetMetadata, {"sha256": 3}, "sha256"),
    (forms.State, {"epoch": "x"}, "epoch"),
    (forms.State, {"epoch": -5}, "epoch"),
    (forms.State, {"epoch": True}, "epoch"),
    (forms.State, {"epoch": 10**400}, "epoch"),
    (forms.State, {"weights": "../epoch-0001.weights.h5"}, "weights"),
    (forms.State, {"random": [["x"]]}, "random.0.0"),
    (forms.State, {"best": []}, "best"),
    (forms.State, {"history": {"loss": "low"}}, "history.loss"),
    (forms.State, {"sha256": {"weights": DIGEST}}, "sha256.state"),
    (forms.State, {"sha257": {}}, "sha257"),
    (forms.RecipeFile, {"recipe": []}, "recipe"),
    (forms.MetricsLine, {"epoch": 0}, "epoch"),
    (forms.Results, {"test": {"accuracy": float("nan")}}, "test.accuracy"),
    (forms.Results, {"versions": None}, "versions"),
    (forms.Results, {"best": None}, "best"),
    (forms.Results, {"history": {"loss": ["a"]}}, "history.loss"),
    (forms.Results, {"parameters": -1}, "parameters"),
    (forms.BundleMetadata, {"batch_sizes": []}, "batch_sizes"),
    (forms.BundleMetadata, {"signatures": {"a": None}}, "signatures.a"),
    (forms.BundleMetadata, {"frames": {"sensor_size": [0, 1]}}, "frames"),
]


@every_form
def test_what_we_write_is_read_as_it_was(form, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(GOOD[form]))
    assert read_json(tmp_path / "a.json", form) == GOOD[form]


@every_form
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "must be a JSON file"),
        ('{"epoch": 1', "must be a JSON file"),
        ("null", "must hold a JSON object. Received: None"),
        ("[]", r"must hold a JSON object. Received: \[\]"),
        ('"' + "a" * 10_000 + '"', "must hold a JSON object"),
        ("[" * 100_000, "must be a JSON file"),
        ('{"epoch":' * 100_000, "must be a JSON file"),
        ('{"epoch": ' + "9" * 10_000 + "}", "must be a JSON file"),
        ('{"epoch": "\\ud800"}', "must be a JSON file"),
        (b"\xff\xfe{}", "must be a JSON file"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_json_object_is_refused_in_few_words(form, text, rule):
    with pytest.raises(ValueError, match=f"^a.json {rule}") as caught:
        parse_json(text, form, "a.json")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("form", "change", "field"), WRONG)
def test_wrong_field_is_named_with_rule_and_value(form, change, field):
    text = json.dumps({**GOOD[form], **change})
    with pytest.raises(ValueError, match=rf"^a.json: .*{field}.*Received: ") as caught:
        parse_json(text, form, "a.json")
    assert len(str(caught.value)) < 2000


@every_form
def test_missing_field_is_named(form):
    for name in GOOD[form]:
        if name in form.__required_keys__:
            rest = {key: value for key, value in GOOD[form].items() if key != name}
            with pytest.raises(ValueError, match=f"a.json: .*{name}: Field required"):
                parse_json(json.dumps(rest), form, "a.json")


def test_what_comes_from_the_file_is_printed_escaped():
    with pytest.raises(ValueError, match="Received") as caught:
        parse_json('{"epoch": "\\u001b[2J"}', forms.MetricsLine, "a.json")
    assert caught.value.args[0].isprintable()


def test_no_more_than_the_limit_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{}" + " " * LIMIT)
    with pytest.raises(ValueError, match=r"a\.json must have at most 1,048,576 bytes"):
        read_json(path, forms.PresetMetadata)
    path.write_text("{}" + " " * (LIMIT - 2))
    assert read_json(path, forms.PresetMetadata) == {}


def test_any_number_of_wrong_values_is_told_in_few_words():
    wrong = {
        '{"class_names": [' + "1," * 5000 + "1]}": r"class_names\.0: [^;]*$",
        json.dumps({"sha256": dict.fromkeys(map(str, range(2000)))}): "2,000 values",
    }
    for text, said in wrong.items():
        with pytest.raises(ValueError, match=f"^a.json: {said}"):
            parse_json(text, forms.PresetMetadata, "a.json")
