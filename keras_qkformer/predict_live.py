"""Predict a recording frame by frame while it is written: a camera's live stream."""

import itertools
import os
import time
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np

from keras_qkformer.events.byte_stream import DamagedRecordingError, Details
from keras_qkformer.events.frames import iter_frames
from keras_qkformer.events.live import Ahead, LiveBytes
from keras_qkformer.events.recording import iter_recording
from keras_qkformer.predict import (
    answers_to_frames,
    check_not_empty,
    frame_duration,
    load_for_stream,
)
from keras_qkformer.trained import on_sensor, warn_of_scaling


class LiveAnswer(NamedTuple):
    """Prediction of the model after one more frame of a live source.

    Attributes:
        end_ms: float. End of the frame, in milliseconds from the first event.
        probabilities: array `(classes,)`, from all frames so far that were not dropped.
        latency_ms: float. Time that the model took for this frame, in milliseconds.
        delay_ms: float. Time from the arrival of the frame's last event to the answer,
            in milliseconds; for a frame without events, from the last event before it.
        dropped: int. Number of frames so far that the model did not see.
    """

    end_ms: float
    probabilities: np.ndarray
    latency_ms: float
    delay_ms: float
    dropped: int


class LiveSummary(NamedTuple):
    """What came of a live source so far.

    Attributes:
        answers: int. Number of frames that were answered.
        dropped: int. Number of complete frames that the model did not see.
        events: int. Number of events that were read.
        skipped: dict from str to int. Entries that are no events of a pixel, by kind.
        format: str. Name of the format, empty before it is known.
        mean_delay_ms: float or `None` without answers, see `LiveAnswer`.
        max_delay_ms: float or `None` without answers.
        ended: str. Empty before the end; `"end"` if the source has ended, `"idle"` if
            nothing came for too long, `"damage"`, or `"closed"` by the reader.
        damage: str. What is wrong where the source was given up, or empty.
    """

    answers: int
    dropped: int
    events: int
    skipped: dict
    format: str
    mean_delay_ms: float | None
    max_delay_ms: float | None
    ended: str
    damage: str


def predict_live(
    folder: str | os.PathLike,
    source: str | os.PathLike | BinaryIO,
    frame_ms: float,
    *,
    drop: bool = False,
    idle_s: float | None = None,
    strict: bool = True,
    orientation: str | None = None,
    sensor_size: tuple[int, int] | None = None,
) -> tuple[list[str], "LiveAnswers"]:
    """Predict class probabilities frame by frame while a recording is written.

    Frames and answers are those of `predict_stream` for the same bytes, however few
    come at once. A frame is complete when an event after its end has come, or the
    source has ended. Reading goes on in a thread while the model is busy. If the model
    is slower than the camera, the source is read no further until it has caught up:
    so a pipe or a connection slows its writer down. With `drop`, a complete frame that
    waits is dropped for the next one instead. The model then goes on from its state
    before that frame, as if this time had not passed; the frames after it keep their
    own time.

    Memory is bounded whatever comes: two frames wait at most.

    Args:
        folder: see `predict_stream`.
        source: what is read, see `events.live.LiveBytes`: a file object such as
            `sys.stdin.buffer`, `"tcp://HOST:PORT"`, or the path of a growing file. Its
            format must be one whose events can be read as they come: AEDAT 2.0 or 3.1,
            EVT 2.0, 2.1 or 3.0, DAT, Event Stream.
        frame_ms: float from 0.001 to 1e12. Duration of a frame, in milliseconds.
        drop: bool. Whether frames are dropped if the model is too slow.
        idle_s: float > 0 or `None`. Seconds without a byte after which the source
            counts as ended.
        strict: bool. Whether damage raises, after the answers before it; otherwise the
            source ends there, and `summary().damage` says where.
        orientation: see `predict_stream`.
        sensor_size: see `predict_stream`.

    Returns:
        `(class_names, answers)`: a list of str, and `LiveAnswers`.

    Raises:
        ValueError: as for `predict_stream`.
        OSError: if there is no such file or server.

    Example:
        names, answers = predict_live("runs/gesture", sys.stdin.buffer, frame_ms=50)
        with answers:
            for answer in answers:
                print(answer.end_ms, names[answer.probabilities.argmax()])
        print(answers.summary())
    """
    trained = load_for_stream(folder)
    duration_us = frame_duration(frame_ms)
    options = {"orientation": orientation or trained.orientation}
    if sensor_size is not None:
        options["sensor_size"] = sensor_size
    recording = _LiveRecording(LiveBytes(source, idle_s), source, strict, options)
    answers = LiveAnswers(trained, recording, duration_us, drop)
    return trained.class_names, answers


class LiveAnswers:
    """Iterator of `LiveAnswer`, and a context manager that closes the source.

    Made by `predict_live`, whose arguments are described there.
    """

    def __init__(self, trained: Any, recording: Any, duration_us: int, drop: bool):
        self._recording = recording
        self._count, self._sum_ms, self._max_ms = 0, 0.0, 0.0
        self._arrived = 0.0
        self._ahead = None
        taken = self._taken(trained, duration_us, drop)
        self._answers = answers_to_frames(trained, taken, duration_us)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LiveAnswer:
        answer = next(self._answers)
        delay_ms = (time.monotonic() - self._arrived) * 1e3
        self._count += 1
        self._sum_ms += delay_ms
        self._max_ms = max(self._max_ms, delay_ms)
        return LiveAnswer(*answer, delay_ms=delay_ms, dropped=self._ahead.dropped)

    def _taken(self, trained, duration_us, drop):
        # Reading begins when the first frame is asked for: the model is compiled then.
        self._ahead = Ahead(self._recording.frames(trained, duration_us), drop)
        for number, frame, arrived in self._ahead:
            if not self._count:
                warn_of_scaling(trained, self._recording.size)
            self._arrived = arrived
            yield number, frame

    def summary(self) -> LiveSummary:
        """Return the `LiveSummary` so far."""
        recording, count = self._recording, self._count
        return LiveSummary(
            answers=count,
            dropped=self._ahead.dropped if self._ahead else 0,
            events=recording.events,
            skipped={kind: n for kind, n in recording.details.skipped.items() if n},
            format=recording.details.format,
            mean_delay_ms=self._sum_ms / count if count else None,
            max_delay_ms=self._max_ms if count else None,
            ended="damage" if recording.damage else recording.file.ended,
            damage=recording.damage,
        )

    def close(self) -> None:
        """Stop reading; frames without an answer are given up."""
        self._recording.file.close()
        if self._ahead:
            self._ahead.stop()
        self._recording.file.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_):
        self.close()


class _LiveRecording:
    """The frames of a source, with what is known of it so far.

    Args:
        file: `LiveBytes`.
        source: what it reads, for messages.
        strict: bool. See `predict_live`.
        options: dict. Options of `iter_recording`.
    """

    def __init__(self, file, source, strict, options):
        self.file = file
        self.details = Details()
        self.events = 0
        self.size = None
        self.damage = ""
        self._source = source
        self._strict = strict
        self._options = options
        # Of the latest chunk: time of its first event, its arrival, that of the one
        # before.
        self._first, self._arrived, self._before = 0, 0.0, 0.0

    def frames(self, trained, duration_us):
        """Yield `(number, frame, arrived)`, the last when its last event has come."""
        trained_size = trained.frame_options["sensor_size"]
        chunks = self._chunks({"sensor_size": trained_size, **self._options})
        start = list(itertools.islice(chunks, 1))
        if not start:
            is_told = self.damage or self.file.ended == "closed"
            why = "silent for too long" if self.file.ended == "idle" else "which ended"
            name = getattr(self._source, "name", self._source)
            check_not_empty(is_told, f"{name}, {why}")
            return
        stated = self._options.get("sensor_size") or self.details.sensor_size
        self.size = tuple(stated or trained_size)
        begin = int(start[0]["t"][0])
        found = on_sensor(itertools.chain(start, chunks), self.size)
        frames = iter_frames(found, duration_us, self.size, live=True)
        for number, frame in enumerate(frames, 1):
            is_inside = self._first < begin + number * duration_us
            yield number, frame, self._arrived if is_inside else self._before

    def _chunks(self, options):
        options = {**options, "details": self.details, "live": True}
        try:
            for chunk in iter_recording(self.file, **options):
                self._first = int(chunk["t"][0])
                self._before, self._arrived = self._arrived, self.file.arrived
                self.events += len(chunk)
                yield chunk
        except DamagedRecordingError as error:
            if not self.file.received:
                return  # Told as a recording without events.
            self.damage = str(error)
            if self._strict:
                raise
