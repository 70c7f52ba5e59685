"""Data sets in miniature, in the layout of the real ones."""

import zipfile

import numpy as np

from keras_qkformer.events.aedat2 import write_aedat2
from keras_qkformer.events.aedat31 import write_aedat31
from keras_qkformer.events.event_array import make_events

LIGHTS = ("fluorescent", "fluorescent_led", "lab", "led", "natural")
# As in the real ones: 98 recordings of users 1 to 23, 24 of users 24 to 29.
USERS = {"train": (range(1, 24), 98), "test": (range(24, 30), 24)}
CODES = (*range(1, 12), 8)  # Arm roll twice.


def make_gesture(folder):
    """122 miniature recordings of DVS128 Gesture in `folder/DvsGesture`."""
    folder = folder / "DvsGesture"
    folder.mkdir(parents=True)
    for split, (users, count) in USERS.items():
        # The first lights of every user, until there are enough.
        names = [f"user{user:02d}_{light}" for light in LIGHTS for user in users]
        names = sorted(names[:count])
        for name in names:
            make_gesture_recording(folder, name)
        lines = "\n".join(f"{name}.aedat" for name in names)
        (folder / f"trials_to_{split}.txt").write_text(f"{lines}\n\n")
    (folder / "gesture_mapping.csv").write_text("action,label\nhand_clapping,1\n")
    return folder


def make_gesture_recording(folder, name, codes=CODES):
    """A recording whose k-th gesture is 30 events of its own, and some in between."""
    rng = np.random.default_rng(list(name.encode()))
    starts = 1000 + 1000 * np.arange(len(codes))
    t = np.concatenate([[500], *(start + np.arange(0, 900, 30) for start in starts)])
    x, y = rng.integers(0, 128, (2, len(t)))
    events = make_events(t, x, y, rng.random(len(t)) < 0.5)
    write_aedat31(folder / f"{name}.aedat", events, packet_events=64)
    lines = [
        f"{code},{start},{start + 900}"
        for code, start in zip(codes, starts, strict=True)
    ]
    text = "\n".join(["class,startTime_usec,endTime_usec", *lines, ""])
    (folder / f"{name}_labels.csv").write_text(text)
    return events


def make_cifar10_dvs(folder, class_names, *, zipped, count=10):
    """`count` miniature recordings per class, as folders or as archives.

    Each has 40 events, the one numbered i at i^2 microseconds: frames of equal length
    differ from frames of equally many events.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for label, name in enumerate(class_names):
        rng = np.random.default_rng(label)
        (folder / name).mkdir()
        for number in range(count):
            x, y = rng.integers(0, 128, (2, 40))
            events = make_events(np.arange(40) ** 2, x, y, rng.random(40) < 0.5)
            write_aedat2(folder / name / f"cifar10_{name}_{number}.aedat", events)
        if zipped:
            with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
                for path in sorted((folder / name).iterdir()):
                    archive.write(path, f"{name}/{path.name}")
                    path.unlink()
            (folder / name).rmdir()
    return folder


def make_classes(folder, class_names, *, count=4, sensor=32, num_events=400, seed=0):
    """`<class>/<number>.aedat`: a bright block whose side tells the class."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(class_names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            x = rng.integers(0, sensor // 2, num_events) + sensor // 2 * (label % 2)
            y = rng.integers(0, sensor, num_events)
            t = np.sort(rng.integers(0, 100_000, num_events))
            events = make_events(t, x, y, rng.random(num_events) < 0.5)
            write_aedat31(folder / name / f"{number}.aedat", events)
    return folder
