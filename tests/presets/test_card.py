"""Model cards: what they say comes from the folder, and what hubs read is YAML."""

import json
import re
import shutil

import pytest
import yaml

from keras_qkformer.manifest import CARD_FILE, check_folder, write_manifest
from keras_qkformer.presets.card import GENERATED, make_card, write_card
from keras_qkformer.presets.upload import prepare_upload

pytestmark = pytest.mark.backend_independent
CONFIG = {
    "format": 1,
    "model_family": "qkformer",
    "image_size": [32, 32],
    "in_channels": 3,
    "static": True,
    "time_steps": 4,
}
METADATA = {
    "keras_qkformer": "0.1.0",
    "date": "2026-11-30",
    "parameters": 6_706_234,
    "preset": "qkformer_4_384_cifar10",
    "class_names": ["cat", "dog"],
    "preprocessing": {"mean": [0.5], "std": [0.5]},
    "recipe": {
        "preset": "qkformer_4_384_cifar10",
        "data": {"name": "cifar10", "train": "train", "validation": "train[98%:]"},
    },
    "val_accuracy": 0.5,
    "epoch": 7,
}
RESULTS = {
    "test": {"accuracy": 0.75, "examples": 1000, "loss": 0.9},
    "test_split": "test",
    "best": {"epoch": 1, "val_accuracy": 0.75, "val_loss": 0.9},
    "history": {"loss": [1.0]},
    "parameters": 3,
}


def make_folder(path, config=None, **metadata):
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    (path / "metadata.json").write_text(json.dumps({**METADATA, **metadata}))
    (path / "model.weights.h5").write_text("weights")
    write_manifest(path)
    return path


def front_matter(card):
    _, front, _ = card.split("---\n", 2)
    return yaml.safe_load(front)


def report_of(path, **changes):
    names = METADATA["class_names"]
    record = {
        "format": 1,
        "model": {
            "name": "m",
            "family": "qkformer",
            "preset": None,
            "parameters": METADATA["parameters"],
            "time_steps": 4,
            "input_shape": [32, 32, 3],
            "class_names": names,
            "reported": None,
            **changes,
        },
        "data": {
            "source": "cifar10",
            "split": "test",
            "examples": 64,
            "accuracy": 0.625,
            "accuracy_by_step": None,
        },
        "operations": [],
        "neurons": [],
        "energy": {
            "device": "45nm_float32",
            "conventions": {"qkformer": {"total_mj": 1.25, "by_operation_mj": []}},
            "twin_mj": 9.5,
        },
        "command": "analyze",
        "date": "2026-11-30 09:00",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def test_the_front_matter_is_what_the_hub_reads(tmp_path):
    folder = make_folder(tmp_path / "preset")
    card = make_card(folder, "hf://me/cats", "mit", RESULTS)
    front = front_matter(card)
    assert front["library_name"] == "keras"
    assert front["license"] == "mit"
    assert front["pipeline_tag"] == "image-classification"
    assert {"keras", "spiking-neural-network", "qkformer"} <= {*front["tags"]}
    (model,) = front["model-index"]
    assert model["name"] == "me/cats"
    found = [(r["dataset"]["split"], r["metrics"]) for r in model["results"]]
    assert found == [
        ("test", [{"type": "accuracy", "value": 0.75}]),
        ("train[98%:]", [{"type": "accuracy", "value": 0.5}]),
    ]
    reason = "huggingface_hub is not installed"
    hub = pytest.importorskip("huggingface_hub", reason=reason)
    theirs = hub.ModelCard(card).data
    assert theirs.license == "mit"
    assert [r.metric_value for r in theirs.eval_results] == [0.75, 0.5]


def test_the_card_tells_what_the_folder_holds(tmp_path):
    folder = make_folder(tmp_path / "preset")
    card = make_card(folder, "hf://me/cats", "mit", RESULTS)
    assert "| parameters | 6,706,234 |" in card
    assert "| time steps T | 4 |" in card
    assert "= (32, 32, 3)" in card
    assert "Trained on `cifar10`: train `train`, validation `train[98%:]`." in card
    assert "2 classes: `cat`, `dog`." in card
    assert "| 75.00 % | `test` | 1,000 examples |" in card
    assert "| 50.00 % | `train[98%:]` | chose epoch 7 |" in card
    assert 'trained = load_trained("hf://me/cats")' in card
    assert "mJ" not in card  # There is no analysis.


def test_a_reported_accuracy_stands_apart_and_only_for_the_published_model(tmp_path):
    said = "not for these weights: 96.18 % top-1"
    assert said in make_card(make_folder(tmp_path / "same"))
    for name, config, metadata in (
        ("steps", {"time_steps": 2}, {}),
        ("size", {"image_size": [64, 64]}, {}),
        ("neuron", {"neuron": "if"}, {}),
        ("parameters", {}, {"parameters": 5}),
    ):
        card = make_card(make_folder(tmp_path / name, config, **metadata))
        assert "Reported" not in card
    reported = {"top_1": 12.5, "note": "by a friend"}
    card = make_card(
        make_folder(tmp_path / "given", reported=reported, val_accuracy=0.0)
    )
    assert "12.5 % top-1 by a friend" in card


def test_energy_comes_with_the_name_of_its_convention(tmp_path):
    folder = make_folder(tmp_path / "preset", val_accuracy=None)
    card = make_card(folder, report=report_of(tmp_path / "report.json"))
    assert "| `qkformer` | 1.25 |" in card
    assert "| the same model without spikes | 9.5 |" in card
    assert (
        "64 examples of `cifar10`, `test`, with the unit costs `45nm_float32`" in card
    )
    assert "| 62.50 % | `test` | 64 examples, by `analyze`" in card
    other = report_of(tmp_path / "other.json", parameters=3)
    with pytest.raises(ValueError, match="A report must be of the model itself"):
        make_card(folder, report=other)


def test_a_licence_is_never_guessed(tmp_path):
    folder = make_folder(tmp_path / "preset")
    card = make_card(folder)
    assert "license" not in front_matter(card)
    assert "## Licence\n\nNot stated." in card
    assert "pipeline_tag" not in front_matter(
        make_card(make_folder(tmp_path / "events", {"static": False}))
    )
    own = make_folder(tmp_path / "own", licence="cc-by-4.0")
    assert front_matter(make_card(own))["license"] == "cc-by-4.0"
    assert prepare_upload("hf://me/cats", own).licence == "cc-by-4.0"


def test_names_from_elsewhere_stay_text(tmp_path):
    evil = '"]}\n---\nlicense: mit\n| `x` <script>\x1b[2J\u202e'
    folder = make_folder(
        tmp_path / "preset",
        {"model_family": evil},
        class_names=[evil, "b"],
        recipe={"preset": evil, "data": {"name": evil, "train": evil}},
        test={"accuracy": float("nan"), "split": evil},
        precision=evil,
        reported="nothing",
    )
    card = make_card(folder)
    assert card.isascii()
    front = front_matter(card)
    assert "license" not in front
    assert front["tags"][-1].startswith('"]}\\n---')
    *_, body = card.split("---\n")
    plain = re.sub(r"`[^`]*`", "", body)  # Code is text, whatever is in it.
    assert "<script>" not in plain.replace("\\<script\\>", "")
    assert card.count("\n---\n") == 1


def test_an_edited_card_stays_and_may_be_edited(tmp_path):
    folder = make_folder(tmp_path / "run" / "best")
    write_card(folder)
    first = (folder / CARD_FILE).read_text()
    assert GENERATED in first
    write_card(folder, results=RESULTS)
    assert "75.00 %" in (folder / CARD_FILE).read_text()
    mine = "---\nlicense: mit\n---\n# My cats\n"
    (folder / CARD_FILE).write_text(mine)
    write_card(folder, results=RESULTS)
    assert (folder / CARD_FILE).read_text() == mine
    check_folder(folder)  # The manifest does not list it.
    upload = prepare_upload("hf://me/cats", tmp_path / "run")
    assert (upload.card, upload.licence) == (mine, "mit")
    with pytest.raises(ValueError, match=r"An edited README\.md is sent as it is"):
        prepare_upload("hf://me/cats", folder, licence="apache-2.0")


def test_an_upload_of_a_workdir_tells_its_results_and_its_report(tmp_path):
    folder = make_folder(tmp_path / "run" / "best")
    made = {"command": "fit", "versions": {}, "machine": "m", "commit": None}
    results = tmp_path / "run" / "results.json"
    results.write_text(json.dumps({**RESULTS, **made}))
    report_of(tmp_path / "run" / "report" / "report.json")
    upload = prepare_upload("hf://me/cats", tmp_path / "run", licence="mit")
    assert upload.folder == folder
    assert "75.00 %" in upload.card
    assert "| `qkformer` | 1.25 |" in upload.card
    assert upload.sizes["model.weights.h5"] == len("weights")
    shutil.rmtree(tmp_path / "run" / "report")
    assert "mJ" not in prepare_upload("hf://me/c", tmp_path / "run", "mit").card


def test_a_config_of_others_stays_text(tmp_path):
    config = {"image_size": ["|x\n# Y", "<b>"], "time_steps": "<i>", "in_channels": {}}
    card = make_card(make_folder(tmp_path / "preset", config))
    assert r"height, width, channels) = (\|x\\n# Y, \<b\>, {})" in card
    assert r"| time steps T | \<i\> |" in card
    for size in ([1], "12", {"a": 1}, None):
        folder = make_folder(tmp_path / f"of {size}", {"image_size": size})
        assert "(?, ?, 3)" in make_card(folder)
