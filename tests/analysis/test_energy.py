"""Energies against published logs, and the rules of each convention by hand."""

import csv
import dataclasses
from pathlib import Path

import pytest
from small_models import SMALL_MODELS

from keras_qkformer.analysis.activity import InputStatistics, OperationActivity
from keras_qkformer.analysis.energy import (
    CONVENTIONS,
    DEVICES,
    RULES,
    Device,
    count,
    energy,
    memory,
    register_device,
    twin_mj,
)
from keras_qkformer.analysis.operations import Operation, operations
from keras_qkformer.models import SpikingClassifier

pytestmark = pytest.mark.backend_independent

LOGS = Path(__file__).parents[1] / "golden" / "energy"
PAGE = Path(__file__).parents[2] / "docs" / "energy.md"
# Rates that QKFormer's paper prints for 10-768: of X' and of the first unit of the MLP,
# which are the inputs of these layers.
STAGE_1 = {"attention/proj": 0.0832, "mlp/reduce": 0.0518}
STAGE_2 = {"attention/proj": 0.0350, "mlp/reduce": 0.0246}


def statistics(mean, nonzero=None, largest=1.0, whole=True):
    """Inputs of a given mean; spikes, if they are whole and at most 1."""
    return InputStatistics(
        mean=mean,
        nonzero=mean if nonzero is None else nonzero,
        largest=largest,
        is_binary=whole and largest <= 1,
        is_whole=whole,
        mean_by_step=[mean],
    )


def measured(operation, *inputs):
    return OperationActivity(
        operation=operation, inputs=inputs, events=0.0, events_by_value=0.0
    )


# The files hold the logs that Spikingformer's authors published of their counter, over
# all validation images of ImageNet: for each layer, the operations of all time steps
# and the rate of its input; for each block, the rates of Q, K and V.
@pytest.mark.parametrize(
    ("name", "heads", "total"),
    [
        ("spikingformer_8_512", 8, "7.463502602"),
        ("spikingformer_8_768", 12, "13.65886495"),
    ],
)
def test_counts_and_energy_are_those_of_the_published_log(name, heads, total):
    with (LOGS / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    layers = iter(row for row in rows if row["kind"] != "QKV rates")
    attentions = iter(row for row in rows if row["kind"] == "QKV rates")
    model = SpikingClassifier.from_preset(f"{name}_imagenet", num_heads=heads)
    activities = []
    for operation in operations(model):
        if operation.kind != "product":
            row = next(layers)
            # The log has nine digits.
            dense = operation.macs + operation.biases
            assert float(f"{dense:.9g}") == float(row["dense_ops_T4"]), operation
            is_spikes = not float(row["macs"])
            # The energy comes from the accumulates. In the log of 8-768, the rates
            # differ from them in the fifth digit, as means over unequal batches would.
            rate = float(row["acs"]) / dense if is_spikes else 1.0
            assert rate == pytest.approx(float(row["rate_percent"]) / 100, rel=2e-5)
            inputs = [statistics(rate, whole=is_spikes)]
        elif operation.factors == ("key", "value"):
            query, key, value = map(float, next(attentions)["rate_percent"].split())
            inputs = [statistics(key), statistics(value)]
        else:
            inputs = [statistics(query), statistics(3.0, largest=9.0)]
        activities.append(measured(operation, *inputs))
    assert not [*layers, *attentions]
    found = energy(activities, "spikingformer")
    digits = len(total.partition(".")[2])
    assert f"{found.total_mj:.{digits}f}" == total


def convolution(**changes):
    """An operation of 2 time steps with 100 multiply-accumulates, 8 biases."""
    sizes = {
        "path": "unit",
        "kind": "convolution",
        "stage": "stage1",
        "parameters": 50,
        "steps": 2,
        "macs": 100,
        "macs_once": 100,
        "biases": 8,
        "inputs": 20,
        "outputs": 8,
    }
    return Operation(**{**sizes, **changes})


def counts(operation, *inputs, events=0.0, by_value=0.0):
    """`(macs, accumulates)` by each convention."""
    activity = OperationActivity(
        operation=operation, inputs=inputs, events=events, events_by_value=by_value
    )
    return {name: count(activity, each) for name, each in CONVENTIONS.items()}


def test_spikes_cost_accumulates_with_or_without_padding_and_biases():
    found = counts(convolution(), statistics(0.25), events=19.0, by_value=19.0)
    assert found == {
        "qkformer": (0, 25),
        "spikingformer": (0, 27),  # Of 100 + 8.
        "strict": (0, 19),
        "spikingjelly": (0, 19),
    }


def test_numbers_above_one_cost_their_value_or_dense_macs():
    inputs = statistics(0.5, nonzero=0.25, largest=3.0)
    assert counts(convolution(), inputs, events=19.0, by_value=38.0) == {
        "qkformer": (0, 50),
        "spikingformer": (108, 0),
        "strict": (100, 0),
        "spikingjelly": (100, 0),
    }
    # Potentials are no accumulates by any convention.
    real = statistics(0.5, whole=False)
    assert counts(convolution(), real)["qkformer"] == (100, 0)


def test_the_first_layer_costs_macs_even_for_events_of_zero_and_one():
    first = convolution(is_first=True, macs=100, macs_once=50)
    found = counts(first, statistics(0.25), events=19.0, by_value=19.0)
    assert found == {
        "qkformer": (50, 0),
        "spikingformer": (108, 0),
        "strict": (0, 19),
        "spikingjelly": (0, 19),
    }


def test_the_head_takes_means_of_spikes():
    head = convolution(is_head=True, kind="dense")
    found = counts(head, statistics(0.5, whole=False))
    assert found == {
        "qkformer": (0, 100),  # At each of two time steps.
        "spikingformer": (108, 0),
        "strict": (100, 0),
        "spikingjelly": (100, 0),
    }


def test_a_head_behind_potentials_takes_no_spikes():
    head = convolution(is_head=True, kind="dense", has_rate=False)
    # Their mean may be negative, which no energy is.
    assert counts(head, statistics(-0.5, whole=False)) == {
        "qkformer": (100, 0),
        "spikingformer": (108, 0),
        "strict": (100, 0),
        "spikingjelly": (100, 0),
    }
    for family, has_rate in (("spikingformer", False), ("max_former", True)):
        *_, last = operations(SMALL_MODELS[family].make())
        assert last.is_head and last.has_rate == has_rate


def test_products_of_attention():
    shared = {"kind": "product", "biases": 0}
    first = convolution(factors=("key", "value"), **shared)
    found = counts(first, statistics(0.25), statistics(0.125), events=3.0)
    assert found == {
        "qkformer": (0, 25),
        "spikingformer": (0, 12.5),  # The smaller rate.
        "strict": (0, 3),
        "spikingjelly": (0, 3),
    }
    second = convolution(factors=("query", "context"), **shared)
    context = statistics(0.5, nonzero=0.25, largest=4.0)
    assert counts(second, statistics(0.25), context, events=20.0) == {
        "qkformer": (0, 25),
        "spikingformer": (0, 25),
        "strict": (100, 0),  # One factor is no spikes.
        "spikingjelly": (0, 20),
    }


def test_energy_names_its_convention_and_the_device_its_costs():
    operations = [convolution(is_first=True), convolution()]
    activities = [measured(each, statistics(0.25)) for each in operations]
    found = energy(activities, "qkformer")
    assert found.by_operation_mj == pytest.approx([100 * 4.6e-9, 25 * 0.9e-9])
    assert found.total_mj == pytest.approx(sum(found.by_operation_mj))
    assert str(found) == (
        "4.825e-07 mJ per example by convention 'qkformer' on 45nm_float32"
    )
    on_loihi = energy(activities, "qkformer", "loihi")
    assert on_loihi.total_mj == pytest.approx(125 * 27.1e-9)


def test_a_device_and_a_convention_of_ones_own():
    mine = Device(name="mine", source="me", mac_pj=2.0, accumulate_pj=1.0)
    register_device(mine)
    try:
        activities = [measured(convolution(), statistics(0.25))]
        found = energy(activities, "qkformer", "mine")
        assert found.total_mj == pytest.approx(25e-9)
    finally:
        del DEVICES["mine"]
    own = dataclasses.replace(
        CONVENTIONS["qkformer"], name="own", whole_numbers="dense"
    )
    (macs,) = energy(
        [measured(convolution(), statistics(0.5, largest=2.0))], own, mine
    ).macs
    assert macs == 100


def test_conventions_state_every_rule_and_their_source():
    for convention in CONVENTIONS.values():
        assert convention.rules().keys() == RULES.keys()
        assert all(convention.rules().values()) and convention.source
    assert all(device.source for device in DEVICES.values())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: energy([], "paper"), r"one of \('qkformer', .*Received: 'paper'"),
        (lambda: energy([], "strict", "cpu"), r"one of \('45nm_float32'.*'cpu'"),
        (
            lambda: dataclasses.replace(CONVENTIONS["strict"], padding="yes"),
            r"padding must be one of \('counted', 'left out'\). Received: .*'yes'",
        ),
        (
            lambda: Device(name="a", source="b", mac_pj=0, accumulate_pj=1),
            "mac_pj must be above 0. Received: 0",
        ),
        (
            lambda: dataclasses.replace(DEVICES["loihi"], neuron_update_pj=-1.0),
            "neuron_update_pj must be above 0. Received: -1.0",
        ),
    ],
)
def test_unknown_names_and_costs_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_twin_runs_once_and_memory_is_told_apart():
    model = SpikingClassifier.from_preset("qkformer_tiny", time_steps=4)
    same = SpikingClassifier.from_preset("qkformer_tiny", time_steps=1)
    assert twin_mj(operations(model)) == pytest.approx(twin_mj(operations(same)))
    once = sum(each.macs for each in operations(same))
    assert twin_mj(operations(model)) == pytest.approx(once * 4.6e-9)
    found = memory([convolution()])
    assert found["bytes"] == 4 * (20 + 8 + 50)
    assert found["mj"] == pytest.approx(found["bytes"] * 24.96e-9)
    assert "4 bytes per value" in found["assumption"]
    assert memory([convolution()], "loihi")["mj"] is None


def test_the_page_states_every_answer_and_every_cost():
    page = PAGE.read_text()
    for convention in CONVENTIONS.values():
        assert f"- **`{convention.name}`**" in page
    for device in DEVICES.values():
        costs = (device.mac_pj, device.accumulate_pj)
        assert f"| `{device.name}` | " + " | ".join(f"{c:,.5g}" for c in costs) in page


def test_the_page_says_what_published_rates_of_qkformer_determine():
    known = {
        **{f"stage1_block1/{path}": rate for path, rate in STAGE_1.items()},
        **{f"stage2_block{i}/{p}": rate for i in (1, 2) for p, rate in STAGE_2.items()},
    }
    page = PAGE.read_text()
    all_operations = operations(
        SpikingClassifier.from_preset("qkformer_10_768_imagenet")
    )
    first, *others = all_operations
    published = [
        count(measured(each, statistics(known[each.path])), CONVENTIONS["qkformer"])[1]
        for each in others
        if each.path in known
    ]
    determined = first.macs_once * 4.6e-9 + sum(published) * 0.9e-9
    left = (38.91 - determined) / 0.9e-9
    dense = sum(
        each.macs * (each.steps if each.is_head else 1)
        for each in others
        if each.path not in known
    )
    row = f"| {dense / 1e9:.2f} | **{left / dense:.3f}** if the paper is right | "
    assert f"{row}{left / 1e9:.2f} | {38.91 - determined:.2f} |" in page
    assert f"| {sum(published) / 1e9:.3f} | {determined:.3f} |" in page
    assert f"{twin_mj(all_operations):.1f} mJ" in page
