"""Recordings of event cameras: formats, frames, noise, a simulated camera.

This package needs only NumPy; AEDAT 4 also needs the package `aedat`.
"""

from keras_qkformer.events.byte_stream import (
    DamagedRecordingError,
    DamagedRecordingWarning,
)
from keras_qkformer.events.event_array import (
    EVENT_DTYPE,
    make_events,
    slice_time,
    sort_by_time,
    split_windows,
)
from keras_qkformer.events.frames import (
    events_to_frames,
    events_to_frames_by_duration,
    events_to_voxel_grid,
    iter_frames,
)
from keras_qkformer.events.recording import iter_recording, read_recording

__all__ = [
    "EVENT_DTYPE",
    "DamagedRecordingError",
    "DamagedRecordingWarning",
    "events_to_frames",
    "events_to_frames_by_duration",
    "events_to_voxel_grid",
    "iter_frames",
    "iter_recording",
    "make_events",
    "read_recording",
    "slice_time",
    "sort_by_time",
    "split_windows",
]
