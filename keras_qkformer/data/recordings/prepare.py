"""Prepare TFDS data sets from downloaded recordings, and report damage."""

import contextlib
import importlib
import os
import shutil
from pathlib import Path

import tensorflow_datasets as tfds

from keras_qkformer.partial_folders import is_old

DATA_SETS = (
    *("dvs128_gesture", "cifar10_dvs", "nmnist", "ncaltech101", "asl_dvs", "dvs_lip"),
)


def builder_class(name):
    """Return the TFDS builder of a data set of event-camera recordings.

    Args:
        name: str. A name of `DATA_SETS`.

    Returns:
        Subclass of `builder.EventCameraBuilder`.

    Raises:
        ValueError: if there is no such data set.

    Example:
    >>> builder_class("dvs128_gesture").CLASS_NAMES[0]
    'hand_clapping'
    """
    if name not in DATA_SETS:
        raise ValueError(f"The data set must be one of {DATA_SETS}. Received: {name!r}")
    module = f"keras_qkformer.data.recordings.{name}.{name}_dataset_builder"
    return importlib.import_module(module).Builder


def prepare(
    name,
    manual_dir,
    *,
    data_dir=None,
    configs=None,
    strict=True,
    verify_files=True,
    progress=iter,
):
    """Read all recordings of a data set and store its examples for tf.data.

    A cache in `data_dir` keeps the examples of every recording until all are read: a
    call after an interruption does not read cached recordings again.

    Args:
        name: str. A name of `DATA_SETS`.
        manual_dir: str or path of the folder with the downloaded files.
        data_dir: str or path of the folder for prepared data sets, or `None` for the
            default of TFDS.
        configs: list of names of configs, or `None` for all with the published splits.
        strict: bool. Whether a damaged recording keeps the data set from being built;
            otherwise the events before the damage are used.
        verify_files: bool. Whether files must be the published ones.
        progress: function that takes the list of recordings and iterates over it, such
            as `tqdm.tqdm`.

    Returns:
        `(paths, damaged)`: the folders of the prepared configs, none if the data set
        was not built; and a list of `(recording, error)`, whose errors name the byte
        of the damage.

    Raises:
        ValueError: if the data set or a config is unknown, or files are missing or not
            the published ones.
    """
    cls = builder_class(name)
    manual_dir = Path(manual_dir)
    if not manual_dir.is_dir():
        raise ValueError(
            "The folder with the downloaded files must exist. "
            f"Received: {str(manual_dir)!r}"
        )
    known = [config.name for config in cls.BUILDER_CONFIGS]
    if configs is None:
        configs = [config.name for config in cls.BUILDER_CONFIGS if not config.clean]
    for config in configs:
        if config not in known:
            raise ValueError(f"A config must be one of {known}. Received: {config!r}")
    builders = [
        cls(config=config, data_dir=data_dir, verify_files=verify_files, strict=strict)
        for config in configs
    ]
    missing = [builder for builder in builders if not builder.data_path.exists()]
    damaged = []
    if missing:
        cache_dir = _cache_of(missing[0])
        recordings = missing[0].find_recordings(manual_dir)
        for builder in missing:
            builder.cache_dir = cache_dir
            builder.verify_files = False  # `find_recordings` has just verified them.
            for split, chosen in builder.split_recordings(recordings).items():
                if not chosen:
                    raise ValueError(
                        "Every split must have recordings. "
                        f"Received: no recordings for {split!r}"
                    )
        for recording in progress(recordings):
            error = _read(recording, missing)
            if error:
                damaged.append((recording, error))
        if damaged and strict:
            return [], damaged
        for builder in missing:
            _remove_incomplete(_path_of(builder))
            config = tfds.download.DownloadConfig(manual_dir=manual_dir)
            with contextlib.redirect_stdout(None):  # TFDS prints about downloads.
                builder.download_and_prepare(download_config=config)
    # Also of what a killed process had prepared, but not cleared away.
    for builder in builders:
        cache_dir = _cache_of(builder)
        shutil.rmtree(cache_dir / builder.builder_config.name, ignore_errors=True)
        with contextlib.suppress(OSError):  # It holds other configs, or isn't there.
            cache_dir.rmdir()
    return [_path_of(builder) for builder in builders], damaged


def _path_of(builder):
    return Path(os.fspath(builder.data_path))


def _cache_of(builder):
    return _path_of(builder).parents[1] / "partial"


def _remove_incomplete(path):
    """Remove what killed processes of TFDS left beside a prepared config."""
    # TFDS has no locks that would tell whether a process still writes.
    for left in path.parent.glob(f"incomplete.??????_{path.name}"):
        with contextlib.suppress(OSError):
            if is_old(left):
                shutil.rmtree(left)


def _read(recording, builders):
    """Put the examples of a recording into the cache; return its damage or `None`."""
    missing = [builder for builder in builders if not builder.is_cached(recording)]
    if not missing:
        return None
    events, damage = recording.read(missing[0].ORIENTATION)
    try:
        for builder in missing:
            examples = builder.examples_of(recording, events, damage)
            # The next call reads a damaged recording again, perhaps a better copy.
            if not damage:
                builder.save_to_cache(recording, examples)
    except ValueError as error:
        return damage or error
    return damage
