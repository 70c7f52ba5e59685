"""A folder that was exported to OpenVINO: predict with it, and check it."""

import dataclasses
from pathlib import Path

import numpy as np

from keras_qkformer.forms import PortableMetadata
from keras_qkformer.json_files import read_json
from keras_qkformer.kept_examples import read_examples
from keras_qkformer.manifest import check_folder
from keras_qkformer.presets.folders import METADATA_FILE
from keras_qkformer.printable import printable
from keras_qkformer.serving.check_answers import Subject
from keras_qkformer.serving.openvino_runtime import Run
from keras_qkformer.trained import EXAMPLES_FILE, TrainedModel, preprocessing_of


@dataclasses.dataclass(frozen=True)
class _Input:
    """What a model takes, under the names that a backbone has for it."""

    static: bool
    image_size: tuple
    in_channels: int
    time_steps: int


class _Runtime:
    """The models of a folder as what predictions ask of a `SpikingClassifier`."""

    def __init__(self, folder, backbone):
        self.backbone = backbone
        self.runs = {path.stem: Run(path) for path in sorted(folder.glob("*.xml"))}

    def predict(self, inputs, batch_size=32, verbose=0):
        ((name, _),) = self.runs["model"].inputs.items()
        parts = range(0, len(inputs), batch_size)
        asked = ({name: inputs[i : i + batch_size]} for i in parts)
        return np.concatenate([self.ask("model", each)["logits"] for each in asked])

    def ask(self, name, inputs):
        """Run a model on finite inputs; return outputs with the input's state names."""
        for key, values in inputs.items():
            bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
            if bad.any():
                raise ValueError(
                    f"Inputs must be finite. Received: {key}[{np.argmax(bad)}] is not"
                )
        outputs = self.runs[name](inputs)
        return {key.removeprefix("next_"): value for key, value in outputs.items()}


class BundleModel(TrainedModel):
    """A `TrainedModel` whose `model` runs in OpenVINO and normalizes its inputs."""

    def prepared(self, inputs):
        return self.preprocessing.resized(inputs).numpy()

    def stream(self):
        def step(frame, state):
            outputs = self.model.ask("stream", {"frame": frame, **state})
            return outputs["logits"], {name: outputs[name] for name in state}

        rest = {
            name: np.zeros([1, *entry["shape"][1:]], entry["dtype"])
            for name, entry in self.model.runs["stream"].inputs.items()
            if name != "frame"
        }
        return step, rest


def load_bundle(folder):
    """Load a folder that `export --format openvino` has written.

    Args:
        folder: str or path.

    Returns:
        `BundleModel`. Its `model` has `predict`, and a `backbone` with `static`,
        `image_size`, `in_channels` and `time_steps`.

    Raises:
        ValueError: if a file is damaged or differs from the folder's manifest.
        ImportError: if the extra `openvino` is not installed.
    """
    folder = Path(folder)
    check_folder(folder)
    path = folder / METADATA_FILE
    metadata = read_json(path, PortableMetadata)
    model = _Runtime(folder, _Input(**metadata["input"]))
    _check_fit(folder, metadata, model)
    return BundleModel(
        model=model,
        class_names=metadata["class_names"],
        preprocessing=preprocessing_of(path, metadata, model.backbone),
        metadata=metadata,
        folder=folder,
    )


def _check_fit(folder, metadata, model):
    """Raise `ValueError` unless the models of a folder are those of its metadata."""
    given = model.backbone
    frame = [*given.image_size, given.in_channels]
    expected = {"model": ("images", [None, *frame])}
    if not given.static:
        expected["model"] = "frames", [None, given.time_steps, *frame]
        expected["stream"] = "frame", [None, *frame]
    for name, (taken, shape) in expected.items():
        run, received = model.runs.get(name), None
        if run is not None:
            ports = run.inputs.get(taken), run.outputs.get("logits")
            is_float = all(port and port["dtype"] == "float32" for port in ports)
            received = [port["shape"] for port in ports] if is_float else None
        shapes = [shape, [None, len(metadata["class_names"])]]
        if received != shapes:
            raise ValueError(
                f"{folder / name}.xml must be a model from {taken} to logits, both "
                f"float32, with the shapes {shapes} of {METADATA_FILE}. "
                f"Received: {received}"
            )
    if not given.static:
        run = model.runs["stream"]
        before = {k: v for k, v in run.inputs.items() if k != "frame"}
        after = {
            k.removeprefix("next_"): v for k, v in run.outputs.items() if k != "logits"
        }
        if before != after:
            differing = sorted({*before} ^ {*after}) or sorted(before)
            raise ValueError(
                f"{folder / 'stream'}.xml must return the state that it takes. "
                f"Received: {printable(str(differing[:5]))}"
            )


def check_subject(folder, seconds):
    """Return the `Subject` of a folder's check.

    Args:
        folder: str or path, see `load_bundle`.
        seconds: float > 0. How long to measure each model and batch size.
    """
    bundle = load_bundle(folder)
    models = bundle.model

    def ask(name, inputs):
        outputs = models.ask(name, inputs)
        return {**outputs, "class_ids": np.argsort(-outputs["logits"], -1)}

    signatures = {name: {"inputs": run.inputs} for name, run in models.runs.items()}
    examples = read_examples(Path(folder) / EXAMPLES_FILE, ("images", "logits"))
    # The kept logits are those of the rounded weights, so no rounding is left out.
    metadata = {"weights": "float32", "signatures": signatures, "batch_sizes": [8]}
    return Subject(ask, metadata, examples, seconds)
