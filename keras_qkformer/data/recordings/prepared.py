"""Data sets that `prepare` has prepared, as a source of event frames."""

import os

import numpy as np
import tensorflow as tf

from keras_qkformer.data.recordings.folders import COUNTS, frame_type, frames_of_events
from keras_qkformer.data.records import scan_records, single
from keras_qkformer.data.source import OnDemand, Source, check_split
from keras_qkformer.events.event_array import make_events


def prepared(
    name,
    *,
    time_steps,
    data_dir=None,
    frames_by="number",
    clean=False,
    events_only=False,
):
    """Return a prepared data set: stored frames, or frames made from stored events.

    Args:
        name: str. A name of `prepare.DATA_SETS`.
        time_steps: int > 0. Frames per example. Stored frames of this number are used
            if there are any.
        data_dir: str or path of the folder with prepared data sets, or `None` for the
            default of TFDS.
        frames_by: str. `"number"`, `"time"` or `"voxel"`, see `frames_of_events`.
        clean: bool. Whether to use the clean splits.
        events_only: bool. Whether to ignore stored frames, so that events can be
            changed before frames are made from them.

    Returns:
        `Source`.

    Raises:
        ValueError: if the data set is unknown or not prepared.
    """
    # It imports TFDS, which takes a second.
    from keras_qkformer.data.recordings.prepare import builder_class

    cls = builder_class(name)
    suffix = "_clean" if clean else ""
    configs = [f"events{suffix}"]
    frames = f"frames_t{time_steps}{suffix}"
    if frames_by == "number" and not events_only and frames in cls.builder_configs:
        configs.insert(0, frames)
    for config in configs:
        builder = cls(config=config, data_dir=data_dir)
        if builder.data_path.exists():
            break
    else:
        raise ValueError(
            f"The data set must be prepared: keras-qkformer data prepare {name} "
            f"--config {configs[0]} --manual-dir FOLDER. "
            f"Received: nothing at {os.fspath(builder.data_path)!r}"
        )

    def load(split, bounds):
        check_split(split, builder.info.splits)
        records = _Records(builder.info.splits[split].filepaths)
        first, last = bounds(len(records.labels))

        stored = config == frames

        def read(number):
            example = builder.info.features.deserialize_example_np(records[number])
            if stored:
                return example["frames"]
            return make_events(*(example[field] for field in "txyp"))

        def finish(events, number):
            return frames_of_events(events, time_steps, cls.SENSOR_SIZE, frames_by)

        shape = time_steps, *cls.SENSOR_SIZE, 2
        inputs = OnDemand(
            read,
            np.arange(first, last),
            shape,
            frame_type(frames_by),
            finish=None if stored else finish,
        )
        return inputs, records.labels[first:last]

    return Source(
        class_names=tuple(cls.CLASS_NAMES),
        orientation=cls.ORIENTATION,
        sensor_size=cls.SENSOR_SIZE,
        load=load,
        **COUNTS,
    )


class _Records:
    """Serialized examples of TFRecord files by number, with their labels.

    The files are read once to find the places and labels.
    """

    def __init__(self, paths):
        self._gfile = tf.io.gfile.GFile
        self._places, labels = [], []
        for path in map(os.fspath, paths):
            for offset, size, label in scan_records(path, _read_label, self._gfile):
                self._places.append((path, offset, size))
                labels.append(label)
        self.labels = np.array(labels, "int64")

    def __getitem__(self, number):
        path, offset, size = self._places[number]
        with self._gfile(path, "rb") as file:
            file.seek(offset)
            return file.read(size)


def _read_label(features):
    return single(features, ("label",), "int64_list")
