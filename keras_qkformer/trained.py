"""A trained model as one object: the model, its classes and its preprocessing."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_qkformer.backend import prepare_backend
from keras_qkformer.data.images.image_decoding import read_image
from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.data.recordings.folders import frames_of_events
from keras_qkformer.events.byte_stream import Details
from keras_qkformer.events.event_array import check_coordinates
from keras_qkformer.events.recording import read_recording
from keras_qkformer.forms import PresetMetadata, Results
from keras_qkformer.json_files import LARGE_LIMIT, read_json
from keras_qkformer.models import SpikingClassifier, StreamingClassifier
from keras_qkformer.presets.addresses import fetched
from keras_qkformer.presets.folders import METADATA_FILE, like_weights
from keras_qkformer.presets.ranges import file_kind

BEST_FOLDER = "best"
RESULTS_FILE = "results.json"
EXAMPLES_FILE = "examples.npz"


class SensorWarning(UserWarning):
    """A recording is of another sensor than those of the model's training."""


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model with everything its predictions depend on, see `load_trained`.

    Attributes:
        model: `SpikingClassifier`.
        class_names: list of str, in the order of the logits.
        preprocessing: `Preprocessing` of the model's inputs.
        metadata: dict. Metadata of the preset folder.
        folder: path of the preset folder.
    """

    model: SpikingClassifier
    class_names: list
    preprocessing: Preprocessing
    metadata: dict
    folder: Path

    def logits(
        self, inputs: np.ndarray | Iterable[np.ndarray], batch_size: int = 32
    ) -> np.ndarray:
        """Preprocess inputs and compute their logits.

        Args:
            inputs: array `(batch, [time,] height, width, channels)` of any height and
                width: pixels in [0, 255], or numbers of events. Or a list of arrays
                without the batch axis, which may differ in size.
            batch_size: int > 0. Number of inputs that pass the model together.

        Returns:
            float array `(batch, classes)`.
        """
        inputs = np.stack([self.prepared(x) for x in inputs])
        return self.model.predict(inputs, batch_size=batch_size, verbose=0)

    def prepared(self, inputs: np.ndarray) -> np.ndarray:
        """Return the input of `model` for pixels or numbers of events, as an array.

        Args:
            inputs: array `(..., height, width, channels)` of any height and width.
        """
        return self.preprocessing(inputs).numpy()

    def stream(self) -> tuple[Callable, dict[str, np.ndarray]]:
        """Return the model as a function of one frame.

        Returns:
            Pair of a function `step(frame, state) -> (logits, state)` on arrays, where
            `frame` is `(1, height, width, channels)`, see `prepared`; and the state
            before the first frame.
        """
        stream = StreamingClassifier(self.model)
        backbone = self.model.backbone
        frame = keras.Input((*backbone.image_size, backbone.in_channels))
        state = {
            name: keras.Input(entry.shape, dtype=entry.dtype)
            for name, entry in stream.state_spec.items()
        }
        # A model, because every backend compiles `predict_on_batch`.
        step = keras.Model([frame, state], list(stream(frame, state)))
        rest = keras.tree.map_structure(
            keras.ops.convert_to_numpy, stream.initial_state(1)
        )
        return lambda frame, state: step.predict_on_batch([frame, state]), rest

    def predict(
        self,
        inputs: np.ndarray | Iterable[str | os.PathLike | np.ndarray],
        batch_size: int = 32,
    ) -> np.ndarray:
        """Predict the class probabilities of files or arrays.

        Args:
            inputs: list of str or path: image files, or recordings for a model of event
                frames. Or arrays, see `logits`. A list may hold both.
            batch_size: int > 0. Number of inputs that pass the model together.

        Returns:
            float64 array `(batch, classes)`.

        Raises:
            ValueError: if a file can't be read or does not suit the model, or `inputs`
                is a path instead of a list.

        Example:
            trained = load_trained("runs/cifar10")
            probabilities = trained.predict(["cat.jpg", "ship.png"])
            trained.class_names[probabilities[0].argmax()]
        """
        if isinstance(inputs, (str, os.PathLike)):
            raise ValueError(
                f"inputs must be a list, also of one file. Received: {str(inputs)!r}"
            )
        inputs = [
            self.read(x) if isinstance(x, (str, os.PathLike)) else x for x in inputs
        ]
        logits = self.logits(inputs, batch_size).astype("float64")
        return np.exp(log_softmax(logits))

    def read(
        self,
        path: str | os.PathLike,
        orientation: str | None = None,
        sensor_size: tuple[int, int] | None = None,
        time_unit: str | None = None,
        columns: str | None = None,
    ) -> np.ndarray:
        """Read a file as an input, before preprocessing.

        The frames of a recording have the size of its sensor. A `SensorWarning` says if
        that is another one than in training: preprocessing then scales the frames to
        the model's size.

        Args:
            path: str or path of an image file, or of a recording for a model of event
                frames.
            orientation: str, see `keras_qkformer.events.aedat2.read_aedat2`, or `None`
                for the orientation of the training recordings.
            sensor_size: (height, width) in pixels of the recording's sensor. `None`
                takes what the recording states, or the training recordings' if it
                states none.
            time_unit: see `keras_qkformer.events.recording.read_recording`.
            columns: see `keras_qkformer.events.recording.read_recording`.

        Returns:
            Array `(height, width, channels)`, or `(time, height, width, 2)`.

        Raises:
            ValueError: if the file can't be read or does not suit the model, or an
                option of recordings is given for an image.
        """
        backbone = self.model.backbone
        kind = file_kind(backbone.static, backbone.in_channels)
        if kind is None:
            raise ValueError(
                "Files need a model of images with 1 or 3 channels, or of event frames "
                f"with 2. Received: {str(self.folder)!r} with "
                f"static={backbone.static}, in_channels={backbone.in_channels}"
            )
        if kind == "images":
            given = [x for x in (orientation, sensor_size, time_unit, columns) if x]
            if given:
                raise ValueError(
                    "orientation, sensor_size, time_unit and columns must be those of "
                    f"a recording. Received: {given} for an image"
                )
            return read_image(path, backbone.in_channels)
        trained_size = tuple(self.frame_options["sensor_size"])
        details = Details()
        events = read_recording(
            path,
            orientation=orientation or self.orientation,
            sensor_size=sensor_size or trained_size,
            time_unit=time_unit,
            columns=columns,
            details=details,
        )
        size = tuple(sensor_size or details.sensor_size or trained_size)
        warn_of_scaling(self, size)
        (events,) = on_sensor([events], size)
        frames_by = self.frame_options["frames_by"]
        return frames_of_events(events, backbone.time_steps, size, frames_by)

    @property
    def frame_options(self) -> dict[str, Any]:
        """Options with which training made frames from the events of a recording.

        A dict of `sensor_size`, `[height, width]` in pixels, and `frames_by`, see
        `frames_of_events`.
        """
        data = (self.metadata.get("recipe") or {}).get("data")
        if data is None:
            return {
                "sensor_size": list(self.model.backbone.image_size),
                "frames_by": "number",
            }
        # Sources of recordings use the last if neither they nor the recipe gives one.
        size = self.metadata.get("sensor_size") or data["sensor_size"] or (128, 128)
        return {
            "sensor_size": list(size),
            "frames_by": data.get("frames_by") or "number",
        }

    @property
    def orientation(self) -> str:
        """Orientation of the training recordings, see `aedat2.read_aedat2`."""
        return self.metadata.get("orientation", "jaer")


def load_trained(
    folder: str | os.PathLike,
    trust: bool = False,
    revision: str | None = None,
    **overrides,
) -> TrainedModel:
    """Load the best epoch of a training, or a preset folder.

    Args:
        folder: str or path of a workdir of `fit` or of a preset folder; the name of
            weights that the package brings along, such as `"digits"`; or an address,
            see `SpikingClassifier.from_preset`.
        trust: bool. Whether to load a folder whose files differ from its
            `manifest.json` all the same, with a warning.
        revision: str or `None`, see `SpikingClassifier.from_preset`.
        **overrides: see `SpikingClassifier.from_preset`.

    Returns:
        `TrainedModel`.

    Raises:
        ValueError: if there is no trained model, a file differs from the folder's
            manifest, or class names or preprocessing are missing or don't fit the
            model.
        OSError: if an address can't be reached.

    Example:
        load_trained("digits").predict(["one.png", "two.png"])
    """
    prepare_backend()
    folder = find_trained(folder, revision)
    path = folder / METADATA_FILE
    model = SpikingClassifier.from_preset(folder, trust=trust, **overrides)
    metadata = read_json(path, PresetMetadata)
    missing = {"class_names", "preprocessing"} - {*metadata}
    if missing:
        raise ValueError(
            "The metadata of a preset folder must have class_names and preprocessing: "
            "save_to_preset(folder, metadata) takes them. "
            f"Received: {str(folder)!r} without {', '.join(sorted(missing))}"
        )
    names = metadata["class_names"]
    if len(names) != (model.num_classes or 0):
        raise ValueError(
            f"{path} must have a class name for each of the {model.num_classes or 0} "
            f"outputs. Received: {len(names)}"
        )
    return TrainedModel(
        model=model,
        class_names=names,
        preprocessing=preprocessing_of(path, metadata, model.backbone),
        metadata=metadata,
        folder=folder,
    )


def preprocessing_of(
    path: str | os.PathLike, metadata: dict[str, Any], backbone: Any
) -> Preprocessing:
    """Return the `Preprocessing` of a model's metadata.

    Args:
        path: path of the `metadata.json`, for errors.
        metadata: dict, its content.
        backbone: what has the `image_size` and `in_channels` of the model.

    Raises:
        ValueError: if it is none, or does not fit the model.
    """
    try:
        preprocessing = Preprocessing.from_dict(metadata["preprocessing"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    size, channels = tuple(backbone.image_size), backbone.in_channels
    if preprocessing.image_size != size:
        raise ValueError(
            f"{path} must have the model's image_size, {size}. "
            f"Received: {preprocessing.image_size}"
        )
    if len(preprocessing.mean) != channels:
        raise ValueError(
            f"{path} must have a mean for each of the {channels} channels. "
            f"Received: {len(preprocessing.mean)}"
        )
    return preprocessing


def find_trained(folder: str | os.PathLike, revision: str | None = None) -> Path:
    """Find the preset folder of a trained model.

    Args:
        folder: see `load_trained`.
        revision: see `load_trained`.

    Returns:
        Path: the folder of the best epoch of a workdir, or the preset folder itself.

    Raises:
        ValueError: if there is no trained model.
    """
    folder = fetched(folder, revision)
    if (folder / BEST_FOLDER).is_dir():
        folder = folder / BEST_FOLDER
    if not (folder / METADATA_FILE).is_file():
        raise ValueError(
            "A trained model must be a workdir of `fit` with at least one finished "
            f"epoch, a preset folder like its {BEST_FOLDER!r}, with a {METADATA_FILE}, "
            f"or the name of weights. Received: {str(folder)!r}{like_weights(folder)}"
        )
    return folder


def read_results(workdir: str | os.PathLike) -> dict[str, Any]:
    """Read the results of a finished training.

    Args:
        workdir: str or path of a folder.

    Returns:
        Dict, see `fit.fit`.

    Raises:
        ValueError: if the file is not one that `fit` has written.
        OSError: if it can't be read.
    """
    return read_json(Path(workdir) / RESULTS_FILE, Results, LARGE_LIMIT)


def warn_of_scaling(trained: "TrainedModel", size: tuple[int, int]) -> None:
    """Warn if a recording is of another sensor than those of the training.

    Args:
        trained: `TrainedModel`.
        size: (height, width) in pixels of the recording's sensor.
    """
    trained_size = tuple(trained.frame_options["sensor_size"])
    if size != trained_size:
        warnings.warn(
            f"The recording is of a sensor of {_pixels(size)}, the model was trained "
            f"with {_pixels(trained_size)}: frames are scaled to the model's "
            f"{_pixels(trained.model.backbone.image_size)}.",
            SensorWarning,
            stacklevel=3,
        )


def on_sensor(
    chunks: Iterable[np.ndarray], size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Yield chunks of events, and say what to do if one is outside the sensor.

    Args:
        chunks: iterable of arrays `(events,)` of `EVENT_DTYPE`.
        size: (height, width) in pixels.

    Raises:
        ValueError: if an event is outside the sensor.
    """
    for chunk in chunks:
        try:
            check_coordinates(chunk, size)
        except ValueError as error:
            seen = [int(chunk[axis].max()) + 1 for axis in "yx"]
            raise ValueError(
                f"{error}. A recording of another sensor, here of at least "
                f"{_pixels(seen)}, needs its size, sensor_size (predict with "
                "--sensor-size)."
            ) from error
        yield chunk


def _pixels(size):
    return f"{size[0]}x{size[1]} pixels"


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Compute the logarithms of the class probabilities.

    Args:
        logits: float array `(..., classes)`.

    Returns:
        Array of the shape of `logits`.
    """
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
