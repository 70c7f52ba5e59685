# %% [markdown]
"""
# An event camera, from file to running prediction

An event camera takes no pictures. Each pixel reports, within microseconds, that it became brighter
(ON) or darker (OFF). Here you read such a recording, look at it, make frames of it, and let a small
spiking transformer answer while the recording is still being written.
"""

# %% language="bash"
# keras-qkformer samples

# %% [markdown]
"""
`seven.aedat` shows a handwritten seven that moves past a simulated camera of 32x32 pixels.
`weights/dvs_digits` has learned such recordings.

## Read
"""

# %%
# %matplotlib inline
from keras_qkformer.events import read_recording

events = read_recording("seven.aedat")
print(f"{len(events):,} events in {(events['t'][-1] - events['t'][0]) / 1000:.0f} ms")
print(events.dtype.names)
for event in events[:3]:
    print(event)

# %% [markdown]
"""
Time in microseconds, column from the left, row from the top, and true for ON. That is the same for
[each of the formats](../data.md#recordings-of-event-cameras) that cameras and data sets use, and
the first bytes of a file tell its format, whatever its name:
"""

# %%
from pathlib import Path

import numpy as np

from keras_qkformer.events.csv_file import write_csv
from keras_qkformer.events.evt3 import write_evt3
from keras_qkformer.events.npz_file import write_npz

write_evt3("seven.raw", events, sensor_size=(32, 32))
write_npz("seven.npz", events, compressed=True)
write_csv("seven.csv", events)
Path("unnamed").write_bytes(Path("seven.raw").read_bytes())
for name in ("seven.aedat", "seven.raw", "seven.npz", "seven.csv", "unnamed"):
    same = np.array_equal(read_recording(name), events)
    print(f"{name:12} {Path(name).stat().st_size:>7,} bytes, the same events: {same}")

# %% [markdown]
"""
## Look

Points in space and time: an edge of the seven that moves is a sheet of events.
"""

# %% alt="Events as points in space and time: ON and OFF form slanted sheets, as the seven moves"
from keras_qkformer.analysis.figures.events import plot_event_cloud, plot_event_frames

plot_event_cloud(events, None, (32, 32), title="A seven moves past 1,024 pixels")

# %% [markdown]
"""
## What a frame is

A network of time steps wants frames. A frame counts: `(height, width, 2)` holds how often each
pixel reported OFF and ON.
"""

# %% alt="Six frames of the recording, OFF in blue and ON in orange: the outline of a seven"
from keras_qkformer.events import events_to_frames

frames = events_to_frames(events, 6, (32, 32), split_by="time")
edges = np.linspace(events["t"][0], events["t"][-1], 7)
plot_event_frames(frames, None, edges_us=edges, title="Six frames of equal duration")

# %% [markdown]
"""
Frames of equal duration are what a camera gives while it runs. Frames of equally many events need
the end of the recording, and don't depend on how fast things moved. Most papers train on them, and
so was this model.
"""

# %%
for split_by in ("time", "number"):
    frames = events_to_frames(events, 6, (32, 32), split_by=split_by)
    counts = [int(frame.sum()) for frame in frames]
    print(f"{split_by:7} {frames.shape}, events in each frame: {counts}")

# %% [markdown]
"""
## The whole recording

A trained model makes the frames that it was trained on by itself.
"""

# %%
from keras_qkformer import load_trained

trained = load_trained("weights/dvs_digits")
chances = trained.predict(["seven.aedat"])[0]
print(f"{trained.class_names[chances.argmax()]} ({chances.max():.1%})")

# %% [markdown]
"""
## Frame by frame

The network needs no future: a neuron knows its potential, and nothing else of the past. So the same
model takes one frame at a time, with the potentials of all neurons as its state. The state does not
grow, and after the last frame the answer is that of the whole.
"""

# %%
frames = trained.read("seven.aedat")  # (time, height, width, 2)
inputs = trained.prepared(frames)
step, state = trained.stream()
logits, states = [], []
for frame in inputs:
    answer, state = step(frame[None], state)
    logits.append(answer[0])
    states.append(state)

whole = trained.model.predict(inputs[None], verbose=0)[0]
print(f"difference from the whole: {np.abs(logits[-1] - whole).max():.1e}")
print(f"state: {sum(v.nbytes for v in state.values()):,} bytes after every frame")

# %% alt="Frames, potentials of the first layer, and the probability of each digit: the seven wins"
import matplotlib.pyplot as plt

from keras_qkformer.analysis.colours import OFF, ON, as_colours

blue, orange = np.array(OFF) / 255, np.array(ON) / 255
chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
kept = [state["patch_embed1_unit0"][0].mean(-1) for state in states]
most = np.abs(kept).max()

figure = plt.figure(figsize=(8, 5.2), layout="constrained")
grid = figure.add_gridspec(3, 6, height_ratios=(1, 1, 1.5))
for line, (name, pictures) in enumerate(
    {"events": as_colours(frames), "potentials\nthat stay": kept}.items()
):
    for column, picture in enumerate(pictures):
        axes = figure.add_subplot(grid[line, column])
        axes.imshow(picture, "PuOr_r", vmin=-most, vmax=most)
        axes.set(xticks=[], yticks=[])
        if column == 0:
            axes.set_ylabel(name)
axes = figure.add_subplot(grid[2, :])
for digit in range(10):
    line = {"color": orange, "linewidth": 2.5} if digit == 7 else {"color": "0.75"}
    axes.plot(range(1, 7), chances[:, digit], marker="o", **line)
axes.annotate("7", (6, chances[-1, 7]), (8, -4), textcoords="offset points")
axes.set(xlabel="frame", ylabel="probability", xlim=(0.5, 6.5), ylim=(-0.02, 1.02))
axes.spines[["top", "right"]].set_visible(False)
figure.suptitle("What the model sees, what it keeps, what it says", weight="bold")
# %% [markdown]
"""
`predict_stream` does this with a file of any length, in frames of any duration: it reads in chunks,
so memory stays bounded.
"""

# %%
from keras_qkformer.predict import predict_stream

names, answers = predict_stream("weights/dvs_digits", "seven.raw", frame_ms=60)
for answer in answers:
    best = answer.probabilities.argmax()
    print(f"{answer.end_ms:5.0f} ms: {names[best]} ({answer.probabilities[best]:.0%})")

# %% [markdown]
"""
## A live stream

A camera that is still recording writes into a pipe. Any program that writes one of the formats that
can be read as they come will do; here it is `cat`.
"""

# %% language="bash"
# cat seven.raw | keras-qkformer predict weights/dvs_digits --stream - --frame-ms 60

# %% [markdown]
"""
In Python, the source may be any file object. This one plays the camera: its bytes come at the pace
at which the events happened. A frame is complete as soon as an event after its end has come.
"""

# %%
import time

from keras_qkformer.predict_live import predict_live


class Camera:
    """A file object with the bytes of a recording, as many at once as 5 ms bring."""

    def __init__(self, path):
        self.data, self.place = Path(path).read_bytes(), 0

    def read(self, size):
        """Wait for the next bytes; none are the end."""
        time.sleep(0.005)
        self.place += 300
        return self.data[self.place - 300 : self.place]


names, answers = predict_live("weights/dvs_digits", Camera("seven.raw"), frame_ms=60)
with answers:
    for answer in answers:
        best = names[answer.probabilities.argmax()]
        print(f"{answer.end_ms:5.0f} ms: {best}, {answer.delay_ms:.0f} ms later")
summary = answers.summary()
print(f"{summary.answers} frames, {summary.dropped} dropped, {summary.events:,} events")

# %% [markdown]
"""
If the model is slower than the camera, it slows its writer down, or drops whole frames with
`drop=True` ([the rules](../data.md#live-streams)).

## A damaged file

Cables break and disks fill up. Here the last word is half written, and a block in the middle was
never written:
"""

# %%
from keras_qkformer.events import DamagedRecordingError

Path("cut.aedat").write_bytes(Path("seven.aedat").read_bytes()[:-3])
holey = bytearray(Path("seven.aedat").read_bytes())
holey[9000:9512] = bytes(512)
Path("holey.aedat").write_bytes(holey)
for name in ("cut.aedat", "holey.aedat"):
    try:
        read_recording(name)
    except DamagedRecordingError as error:
        print(error)

# %% [markdown]
"""
By default nothing is read over silently: the error names the byte. With `strict=False` you get the
events before it, and a warning that tells how many bytes were left.
"""

# %%
import warnings

for name in ("cut.aedat", "holey.aedat"):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept = read_recording(name, strict=False)
    print(f"{len(kept):,} of {len(events):,} events. {caught[0].message}")

# %% [markdown]
"""
A stream gives the answers before the damage, names it, and ends with status 2:
"""

# %% language="bash"
# keras-qkformer predict weights/dvs_digits --stream holey.aedat --frame-ms 60 2>&1
# echo "status $?"

# %% [markdown]
"""
## What to read next

- [Your own data](../data.md#recordings-of-event-cameras): formats, published data sets, live
  streams from a socket or a growing file.
- `recipes/dvs_digits.py` trains this model in two minutes, and `keras-qkformer data digits` writes
  its recordings.
- [Serving](serving.md): the same stream as a signature of a server, and in ONNX.
"""
