"""Predict files, or a recording frame by frame, with a trained model."""

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_qkformer.events.byte_stream import Details
from keras_qkformer.events.frames import iter_frames
from keras_qkformer.events.recording import iter_recording
from keras_qkformer.mistakes import is_mistake
from keras_qkformer.serving import OPENVINO_MODEL
from keras_qkformer.trained import SensorWarning as SensorWarning
from keras_qkformer.trained import (
    load_trained,
    log_softmax,
    on_sensor,
    warn_of_scaling,
)


def _load(folder):
    """Load the `TrainedModel` of a folder, or what stands for one in OpenVINO."""
    if not (Path(folder) / OPENVINO_MODEL).is_file():
        return load_trained(folder)
    from keras_qkformer.serving.openvino_bundle import load_bundle

    return load_bundle(folder)


class Answer(NamedTuple):
    """Prediction for one file.

    Attributes:
        path: str or path of the file, as given.
        probabilities: float64 array `(classes,)`, or `None` without an answer.
        error: str. Why there is no answer, or empty.
    """

    path: str
    probabilities: np.ndarray | None
    error: str = ""


def predict_files(
    folder: str | os.PathLike,
    paths: Sequence[str | os.PathLike],
    batch_size: int = 32,
    **options: Any,
) -> tuple[list[str], Iterator[Answer]]:
    """Predict the class probabilities of files, see `TrainedModel.predict`.

    Args:
        folder: str or path of a workdir, a preset folder or an OpenVINO model.
        paths: list of str or path: image files, or recordings for a model of event
            frames.
        batch_size: int > 0. Number of files that are read and predicted together.
        **options: of recordings, such as `sensor_size`, see `TrainedModel.read`.

    Returns:
        `(class_names, answers)`: a list of str, and an iterator of one `Answer`
        for each path, in order. Its `error` says if a file can't be read or does not
        suit the model. Reading a recording of another sensor than in training, the
        iterator warns with a `SensorWarning`, see `TrainedModel.read`.

    Raises:
        ValueError: if there is no trained model.
    """
    trained = _load(folder)
    return trained.class_names, _answers_to_files(trained, paths, batch_size, options)


def _answers_to_files(trained, paths, batch_size, options):
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        inputs, errors = [], {}
        for path in batch:
            try:
                inputs.append(trained.read(path, **options))
            except ValueError as error:
                if not is_mistake(error):
                    raise
                errors[path] = str(error).removeprefix(f"{path}: ")
        rows = iter(trained.predict(inputs) if inputs else ())
        for path in batch:
            answer = (None, errors[path]) if path in errors else (next(rows),)
            yield Answer(path, *answer)


class FrameAnswer(NamedTuple):
    """Prediction of the model after one more frame.

    Attributes:
        end_ms: float. End of the frame, in milliseconds from the first event.
        probabilities: array `(classes,)`, from all frames so far.
        latency_ms: float. Time that the model took for this frame, in milliseconds.
    """

    end_ms: float
    probabilities: np.ndarray
    latency_ms: float


def predict_stream(
    folder: str | os.PathLike,
    recording: str | os.PathLike,
    frame_ms: float | None = None,
    orientation: str | None = None,
    sensor_size: tuple[int, int] | None = None,
    time_unit: str | None = None,
    columns: str | None = None,
) -> tuple[list[str], Iterator[FrameAnswer]]:
    """Predict class probabilities after each frame of a recording.

    The recording is read in chunks and the model's state does not grow, so memory stays
    bounded for a recording of any length. Its clock may not leap by more than
    `byte_stream.MAX_GAP_US` or `frames.MAX_EMPTY_FRAMES` frames from one event to the
    next, and at most `frames.MAX_EMPTY_FRAMES_IN_ALL` frames may have no event: so the
    number of events bounds that of the answers. Events are counted at the size of the
    recording's sensor; the frames are then resized to the model's and normalized as in
    training. A `SensorWarning` says if it is another sensor than in training.

    Args:
        folder: str or path of a workdir, a preset folder or an OpenVINO model.
        recording: str or path, see `keras_qkformer.events.recording.read_recording`.
        frame_ms: float from 0.001 to 1e12. Duration of a frame, in milliseconds. `None`
            divides the length of the recording by the model's `time_steps`, to give as
            many frames as in training.
        orientation: str, see `keras_qkformer.events.aedat2.read_aedat2`, or `None` for
            the orientation of the training recordings.
        sensor_size: (height, width) in pixels of the recording's sensor. `None` takes
            what the recording states, or the training recordings' if it states none.
        time_unit: see `keras_qkformer.events.recording.read_recording`.
        columns: see `keras_qkformer.events.recording.read_recording`.

    Returns:
        `(class_names, answers)`: a list of str, and an iterator of `FrameAnswer`.

    Raises:
        ValueError: if there is no trained model, it does not take frames of counted
            events, or `frame_ms` or `orientation` is out of range; if the recording is
            damaged, empty, or has events outside the sensor. The iterator raises it
            when it reaches the damage.
    """
    trained = load_for_stream(folder)
    duration_us = None if frame_ms is None else frame_duration(frame_ms)
    orientation = orientation or trained.orientation
    trained_size = tuple(trained.frame_options["sensor_size"])
    details = Details()

    def chunks():
        return iter_recording(
            recording,
            orientation=orientation,
            sensor_size=sensor_size or trained_size,
            details=details,
            time_unit=time_unit,
            columns=columns,
        )

    found = chunks()
    start = list(itertools.islice(found, 1))  # The details are known from here on.
    check_not_empty(start, recording)
    size = tuple(sensor_size or details.sensor_size or trained_size)
    warn_of_scaling(trained, size)
    found = on_sensor(itertools.chain(start, found), size)
    if duration_us is None:
        first = last = None
        for chunk in found:
            first = chunk["t"][0] if first is None else first
            last = chunk["t"][-1]
        time_steps = trained.model.backbone.time_steps
        duration_us = max(1, -(-int(last - first) // time_steps))
        found = on_sensor(chunks(), size)
    frames = enumerate(iter_frames(found, duration_us, size), 1)
    return trained.class_names, answers_to_frames(trained, frames, duration_us)


def load_for_stream(folder):
    """Load a model that takes frames of counted events, one after the other.

    Args:
        folder: see `predict_stream`.

    Returns:
        `TrainedModel`, or what stands for one in OpenVINO.

    Raises:
        ValueError: if there is no trained model, or it does not take such frames.
    """
    trained = _load(folder)
    backbone = trained.model.backbone
    if backbone.static or backbone.in_channels != 2:
        raise ValueError(
            "A recording needs a model of event frames. Received: "
            f"{str(folder)!r} with static={backbone.static}, "
            f"in_channels={backbone.in_channels}"
        )
    frames_by = trained.frame_options["frames_by"]
    if frames_by == "voxel":
        raise ValueError(
            "A stream needs a model of counted events: a voxel grid is known only when "
            f"its recording has ended. Received: {str(folder)!r} with "
            f"frames_by={frames_by!r}"
        )
    return trained


def frame_duration(frame_ms):
    """Return the duration of a frame in microseconds.

    Args:
        frame_ms: float from 0.001 to 1e12. Duration in milliseconds.

    Raises:
        ValueError: if it is out of range.
    """
    if not 1e-3 <= frame_ms <= 1e12:
        raise ValueError(
            f"frame_ms must be from 0.001 to 1e12. Received: frame_ms={frame_ms}"
        )
    return round(frame_ms * 1000)


def answers_to_frames(trained, frames, duration_us):
    """Yield a `FrameAnswer` to each frame of a recording, from its start.

    Args:
        trained: `TrainedModel`, see `load_for_stream`.
        frames: iterable of `(number, frame)`: numbers from 1 that grow, and arrays
            `(height, width, 2)` of any height and width. The model goes on from frame
            to frame whatever their numbers.
        duration_us: int > 0. Duration of a frame in microseconds.
    """
    step, state = _compiled_stream(trained)
    for number, frame in frames:
        frame = trained.prepared(frame[None])
        start = time.perf_counter()
        logits, state = step(frame, state)
        latency_ms = (time.perf_counter() - start) * 1e3
        logits = logits[0].astype("float64")
        yield FrameAnswer(
            end_ms=number * duration_us / 1e3,
            probabilities=np.exp(log_softmax(logits)),
            latency_ms=latency_ms,
        )


def _compiled_stream(trained):
    """Return `trained.stream()`, compiled: no answer is to wait for that."""
    step, state = trained.stream()
    backbone = trained.model.backbone
    frame = np.zeros((1, *backbone.image_size, backbone.in_channels), "float32")
    step(trained.prepared(frame), state)
    return step, state


def check_not_empty(has_events, recording):
    """Raise `ValueError` for a recording without events.

    Args:
        has_events: bool.
        recording: the recording, for the message.
    """
    if not has_events:
        raise ValueError(f"A recording must have events. Received: {str(recording)!r}")
