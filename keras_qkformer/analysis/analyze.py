"""Everything a report tells of a model on data, measured in one pass: `analyze`."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_qkformer.analysis.activity import ActivityMeter
from keras_qkformer.analysis.energy import (
    CONVENTIONS,
    MJ_PER_PJ,
    Convention,
    Device,
    energy,
    get_convention,
    get_device,
    memory,
    twin_mj,
)
from keras_qkformer.models import PRESETS, count_parameters
from keras_qkformer.models.preset import family_of
from keras_qkformer.presets.declared import is_unchanged

FORMAT = 1


def analyze(
    trained: Any,
    batches: Iterable,
    *,
    labels: npt.ArrayLike | None = None,
    source: str = "",
    split: str = "",
    device: str | Device = "45nm_float32",
    conventions: Iterable[str | Convention] = tuple(CONVENTIONS),
) -> dict[str, Any]:
    """Measure rates, operations, energy and accuracy of a model in one pass over data.

    Args:
        trained: `TrainedModel`.
        batches: iterable of arrays or tensors `(batch, ...)` as the model takes them,
            normalized; the last may be smaller.
        labels: int array `(examples,)`, or `None` if they are not known.
        source: str. Name of the data.
        split: str. Name of the split.
        device: str or `energy.Device`. Unit costs of the energies.
        conventions: iterable of str or `energy.Convention`.

    Returns:
        Dict that JSON can hold: `format`, `model`, `data`, `operations`, `neurons` and
        `energy`. Memory does not grow with the number of examples.

    Raises:
        ValueError: if there are no examples, not as many labels as examples, a label is
            no class, there is no such device or convention, or the model has
            `membrane_state="batch"`.
    """
    conventions = [get_convention(each) for each in conventions]
    device = get_device(device)
    names = list(trained.class_names)
    model = trained.model
    meter = ActivityMeter(model, names if labels is not None else ())
    scores = _Scores(len(names), model.backbone.time_steps)
    for batch in batches:
        start, stop = meter.examples, meter.examples + len(batch)
        own = None if labels is None else np.asarray(labels[start:stop])
        if own is not None and len(own) != len(batch):
            raise ValueError(
                "There must be a label for every example. "
                f"Received: {len(labels)} labels, at least {stop} examples"
            )
        if own is not None and not {*own.tolist()} <= {*range(len(names))}:
            raise ValueError(
                f"Labels must be whole numbers from 0 to {len(names) - 1}. "
                f"Received: {own.tolist()[:99]}"
            )
        logits, logits_of_steps = meter.update(batch, own)
        if own is not None:
            scores.add(own, logits, logits_of_steps)
    if labels is not None and len(labels) != meter.examples:
        raise ValueError(
            "There must be a label for every example. "
            f"Received: {len(labels)} labels, {meter.examples} examples"
        )
    if not meter.examples:
        raise ValueError("The data must have examples. Received: none")
    activities, neurons = meter.activities(), meter.neurons()
    return {
        "format": FORMAT,
        "model": _describe(trained),
        "data": {
            "source": source,
            "split": split,
            "examples": meter.examples,
            **(scores.summary() if labels is not None else _Scores.UNKNOWN),
        },
        "operations": [_row(each, device) for each in activities],
        "neurons": [_rates(each) for each in neurons],
        "energy": _energies(activities, neurons, conventions, device, model),
    }


def _describe(trained):
    model, metadata = trained.model, trained.metadata
    name = metadata.get("preset") or metadata.get("recipe", {}).get("preset")
    preset = PRESETS.get(name)
    reported = None
    if preset is not None and preset.reported and is_published(preset, trained):
        reported = {
            "accuracy_percent": preset.reported,
            "source": preset.source,
            "note": preset.reported_note,
        }
    return {
        "name": name or trained.folder.name,
        "family": family_of(model.backbone).name,
        "preset": name,
        "parameters": count_parameters(model),
        "time_steps": model.backbone.time_steps,
        "input_shape": list(model.input_shape[1:]),
        "class_names": list(trained.class_names),
        "reported": reported,
    }


def is_published(preset, trained):
    """Return whether a model is a preset itself, not one that was changed from it.

    Only of the preset itself does its reported accuracy tell something.

    Args:
        preset: `Preset`.
        trained: `TrainedModel`.
    """
    model = trained.model
    own = {**model.backbone.preset_arguments(), "num_classes": model.num_classes}
    return (
        count_parameters(model) == preset.parameters
        and tuple(trained.class_names) == tuple(preset.class_names)
        and is_unchanged(preset, own)
    )


def _rates(rates):
    found = dataclasses.asdict(rates)
    return {**found, "max": found.pop("largest")}


def _row(activity, device):
    operation, inputs = activity.operation, activity.inputs[0]
    return {
        "path": operation.path,
        "kind": operation.kind,
        "stage": operation.stage,
        "parameters": operation.parameters,
        "dense_macs": float(operation.macs),
        "dense_macs_with_bias": float(operation.macs + operation.biases),
        "synaptic_operations": activity.events,
        "synaptic_operations_by_value": activity.events_by_value,
        "input_mean": inputs.mean,
        "input_nonzero": inputs.nonzero,
        "input_max": inputs.largest,
        "input_is_binary": inputs.is_binary,
        "input_is_whole": inputs.is_whole,
        "rate_by_step": inputs.mean_by_step,
        "activation_bytes": operation.inputs * device.itemsize,
        "outputs": operation.outputs,
    }


def _energies(activities, neurons, conventions, device, model):
    operations = [each.operation for each in activities]
    updates = sum(each.count for each in neurons) * model.backbone.time_steps
    cost = device.neuron_update_pj
    found = [energy(activities, each, device) for each in conventions]
    return {
        "unit": "mJ per example",
        "device": device.name,
        "device_source": device.source,
        "unit_costs_pj": device.unit_costs(),
        "conventions": {
            each.convention.name: {
                "name": each.convention.name,
                "source": each.convention.source,
                "rules": each.convention.rules(),
                "total_mj": each.total_mj,
                "macs": sum(each.macs),
                "accumulates": sum(each.accumulates),
                "by_operation_mj": each.by_operation_mj,
            }
            for each in found
        },
        "twin_mj": twin_mj(operations, device),
        "memory": memory(operations, device),
        "neuron_updates": {
            "count": float(updates),
            "mj": None if cost is None else updates * cost * MJ_PER_PJ,
        },
    }


class _Scores:
    """Accuracy, loss and confusion, added up batch by batch."""

    UNKNOWN = dict.fromkeys(("accuracy", "loss", "confusion", "accuracy_by_step"))

    def __init__(self, classes, steps):
        self.confusion = np.zeros((classes, classes), "int64")
        self.right = np.zeros(steps, "int64")
        self.loss = 0.0

    def add(self, labels, logits, logits_of_steps):
        """Add one batch."""
        logits = logits.astype("float64")
        np.add.at(self.confusion, (labels, logits.argmax(-1)), 1)
        own = logits[np.arange(len(labels)), labels]
        self.loss += float(np.sum(np.logaddexp.reduce(logits, axis=-1) - own))
        # The logits after t steps are the mean over these, whose order is their sum's.
        so_far = logits_of_steps.astype("float64").cumsum(1)
        self.right += np.sum(so_far.argmax(-1) == labels[:, None], axis=0)

    def summary(self):
        """Return the scores of all examples."""
        examples = int(self.confusion.sum())
        return {
            "accuracy": float(np.trace(self.confusion) / examples),
            "loss": self.loss / examples,
            "confusion": self.confusion.tolist(),
            "accuracy_by_step": (self.right / examples).tolist(),
        }
