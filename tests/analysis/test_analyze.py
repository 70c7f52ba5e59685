"""What a report reads: one dictionary, measured in one pass."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from model_harness import TINY, random_inputs, settle
from two_layers import TwoLayers

from keras_qkformer.analysis.analyze import analyze, is_published
from keras_qkformer.analysis.energy import CONVENTIONS
from keras_qkformer.models import (
    PRESETS,
    QKFormerBackbone,
    QKFormerClassifier,
    SpikingClassifier,
    count_parameters,
)
from keras_qkformer.trained import TrainedModel
from keras_qkformer.training.scores import score

NAMES = ["ant", "bee", "cat", "dog", "eel"]


@pytest.fixture(scope="module")
def trained():
    return TrainedModel(
        model=settle(QKFormerClassifier(QKFormerBackbone(**TINY), num_classes=5)),
        class_names=NAMES,
        preprocessing=None,
        metadata={"preset": "qkformer_4_384_cifar10"},
        folder=Path("somewhere"),
    )


def test_a_report_holds_scores_operations_neurons_and_energy(trained):
    x = random_inputs(trained.model, batch=7)
    labels = np.array([0, 1, 1, 2, 3, 4, 0])
    found = analyze(trained, [x[:4], x[4:]], labels=labels, source="noise", split="s")
    assert json.loads(json.dumps(found)) == found
    data = found["data"]
    scores = score(labels, trained.model.predict(x, verbose=0), NAMES)
    assert (data["source"], data["split"], data["examples"]) == ("noise", "s", 7)
    assert data["accuracy"] == scores["accuracy"] == data["accuracy_by_step"][-1]
    assert data["loss"] == pytest.approx(scores["loss"], rel=1e-4)
    confusion = {
        name: {NAMES[j]: n for j, n in enumerate(row) if n}
        for name, row in zip(NAMES, data["confusion"], strict=True)
    }
    assert confusion == scores["confusion"]
    assert len(data["accuracy_by_step"]) == 3
    model = found["model"]
    assert (model["name"], model["family"]) == ("qkformer_4_384_cifar10", "qkformer")
    assert model["reported"] is None  # That is of the preset; this model is tiny.
    assert (len(found["operations"]), len(found["neurons"])) == (20, 19)
    assert found["operations"][-1]["stage"] == "head"
    assert {each["stage"] for each in found["operations"]} == {
        *("stage1", "stage2", "head")
    }
    rates = {each["path"]: each for each in found["neurons"]}
    by_class = rates["patch_embed1/unit0"]["rate_by_class"]
    assert list(by_class) == NAMES and all(by_class.values())
    # Of whole numbers above 1, an entry counts once, or by its value.
    operations = {each["path"]: each for each in found["operations"]}
    query = operations["stage1_block1/attention/query"]
    assert query["input_is_whole"] and query["input_max"] > 1
    for events, share in (
        ("synaptic_operations", "input_nonzero"),
        ("synaptic_operations_by_value", "input_mean"),
    ):
        dense = query["dense_macs"]
        assert query[events] == pytest.approx(query[share] * dense, rel=1e-12)
    assert query["input_nonzero"] < query["input_mean"]
    energy = found["energy"]
    assert list(energy["conventions"]) == list(CONVENTIONS)
    for each in energy["conventions"].values():
        assert len(each["by_operation_mj"]) == len(found["operations"])
        assert each["total_mj"] == pytest.approx(sum(each["by_operation_mj"]))
    neurons = sum(each["count"] for each in found["neurons"])
    assert energy["neuron_updates"] == {"count": 3 * neurons, "mj": None}


@pytest.mark.backend_independent
def test_a_model_that_was_changed_from_a_preset_is_not_the_published_one(trained):
    own = dataclasses.replace(
        PRESETS["qkformer_4_384_cifar10"],
        parameters=count_parameters(trained.model),
        class_names=tuple(NAMES),
        arguments={**TINY, "num_classes": 5},
    )
    assert is_published(own, trained)
    for changes in (
        {"parameters": own.parameters + 1},
        {"class_names": tuple("abcde")},
        *(
            {"arguments": {**own.arguments, **change}}
            for change in (
                {"image_size": 8},
                {"time_steps": 4},
                {"num_heads": (2, 4)},
                {"neuron": "if"},
                {"tau": 3.0},
                {"residual": "pre_activation"},
                {"attention": ("channel", "self")},
            )
        ),
    ):
        assert not is_published(dataclasses.replace(own, **changes), trained)


@pytest.mark.backend_independent
def test_without_labels_nothing_is_said_of_accuracy(trained):
    x = random_inputs(trained.model)
    found = analyze(trained, [x], device="loihi", conventions=["strict"])
    unknown = ("accuracy", "loss", "confusion", "accuracy_by_step")
    assert [found["data"][name] for name in unknown] == [None] * 4
    assert found["neurons"][0]["rate_by_class"] is None
    energy = found["energy"]
    assert energy["neuron_updates"]["mj"] == pytest.approx(
        energy["neuron_updates"]["count"] * 81e-9
    )
    assert energy["memory"]["mj"] is None
    assert list(energy["conventions"]) == ["strict"]


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("batches", "labels", "message"),
    [
        ([], None, "must have examples. Received: none"),
        ([4], [0, 1, 2], "a label for every example. Received: 3 labels, at least 4"),
        ([4], [0] * 5, "a label for every example. Received: 5 labels, 4 examples"),
        ([4], [0, 1, -1, 0], r"whole numbers from 0 to 4. Received: \[0, 1, -1, 0\]"),
        ([0], None, r"A batch must have examples. Received: shape \(0, 3, 4, 5, 1\)"),
    ],
)
def test_labels_and_examples_must_fit(trained, batches, labels, message):
    trained = dataclasses.replace(trained, model=SpikingClassifier(TwoLayers(), 5))
    x = random_inputs(trained.model)
    with pytest.raises(ValueError, match=message):
        analyze(trained, [x[:count] for count in batches], labels=labels)
