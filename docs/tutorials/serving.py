# %% [markdown]
"""
# From a model to a server, a phone, a browser

One trained model, exported four ways. Each export is asked about the same digits, compared with the
model, and timed, here and now.
"""

# %% language="bash"
# keras-qkformer samples > written.txt
# keras-qkformer export weights/digits --out saved_models/digits

# %% [markdown]
"""
## For a server

A SavedModel is a folder of plain TensorFlow operations, in the layout of TF Serving: image files go
in, class names come out. It needs neither Keras nor this library. Let us take both away, and ask:
"""

# %% language="bash"
# python - <<'END'
# import sys
# sys.modules["keras"] = sys.modules["keras_qkformer"] = None  # Importing these fails now.
# import tensorflow as tf
#
# serve = tf.saved_model.load("saved_models/digits/1").signatures["serving_default"]
# answer = serve(image_bytes=tf.constant([open("seven.png", "rb").read()]))
# for name, score in zip(answer["labels"][0][:3], answer["scores"][0][:3]):
#     print(name.numpy().decode(), f"{score:.1%}")
# END

# %% [markdown]
"""
`serve-check` does what a careful operator would: it loads the export as a server does, calls all
signatures with batches of several sizes, and compares each answer with the model's.
"""

# %% language="bash"
# keras-qkformer serve-check saved_models/digits --seconds 0.02 > check.txt
# head --lines 8 check.txt
# echo ...
# tail --lines 3 check.txt

# %% [markdown]
"""
Beside the version lies what a server needs, written once and then yours to edit:
"""

# %% language="bash"
# ls saved_models/digits/server

# %% [markdown]
r"""
A server is a container, which this page can't start. These lines do, where there is Docker; the
last two are two ways to ask it. They are not run here:

    docker compose --file saved_models/digits/server/compose.yaml --profile cpu up
    keras-qkformer serve-check saved_models/digits --url http://localhost:8501/v1/models/digits
    keras-qkformer predict --url http://localhost:8501/v1/models/digits seven.png
    curl -d "{\"instances\": [{\"b64\": \"$(base64 -w0 seven.png)\"}]}" \
      http://localhost:8501/v1/models/digits:predict

## For other runtimes

ONNX for other languages and the browser, LiteRT for phones and small boards, OpenVINO for a CPU of
Intel or AMD, there also with weights of 8 bits. Each export is compared with the model in float64
before it appears, spike by spike.
"""

# %%
# %matplotlib inline
import tensorflow as tf

from keras_qkformer.serving.export import export_portable

tf.get_logger().setLevel("ERROR")  # It would tell of each file.

for format, weights, out in (
    ("onnx", "float32", "digits.onnx"),
    ("litert", "float32", "digits.litert"),
    ("openvino", "int8", "digits.openvino"),
):
    found = export_portable("weights/digits", out, format, weights)["model"]
    print(
        f"{out:16} {found['flips']} of {found['neurons']:,} spikes flipped by rounding"
    )

# %% [markdown]
"""
Each runtime has its own way to load a file. All take `images` and return `logits`.
"""

# %%
import numpy as np
import onnxruntime
import openvino
from ai_edge_litert.interpreter import Interpreter

saved = tf.saved_model.load("saved_models/digits/1").signatures["predict_pixels"]
onnx = onnxruntime.InferenceSession("digits.onnx/model.onnx")
litert = Interpreter("digits.litert/model.tflite").get_signature_runner("model")
hint = {"INFERENCE_PRECISION_HINT": "f32"}  # Some processors would take bfloat16.
int8 = openvino.Core().compile_model("digits.openvino/model.xml", "CPU", hint)
runtimes = {
    "SavedModel": lambda x: saved(images=tf.constant(x))["logits"].numpy(),
    "ONNX": lambda x: onnx.run(["logits"], {"images": x})[0],
    "LiteRT": lambda x: litert(images=x)["logits"],
    "OpenVINO, 8 bits": lambda x: int8({"images": x})["logits"],
}

# %% [markdown]
"""
## Equal, how large, how fast

The 360 test digits, first all at once and then one by one. A spike may flip where its potential
lies at the threshold within rounding, which moves logits by 1e-2 and more; so the class is what
counts, and weights of 8 bits are other weights.
"""

# %%
import time
from pathlib import Path

from keras_qkformer import load_trained
from keras_qkformer.data.images.digits import digits

images, labels = digits().load("test", lambda count: (0, count))
images = images.astype("float32")
model = load_trained("weights/digits").logits(images)
files = ("saved_models/digits/1", "digits.onnx", "digits.litert", "digits.openvino")


def milliseconds(run, calls=40):
    """The time of the fastest answer about one image."""
    seconds = []
    for image in images[:calls]:
        start = time.perf_counter()
        run(image[None])
        seconds.append(time.perf_counter() - start)
    return 1000 * min(seconds)


table = {}
print(f"{'':18} {'right':>8} {'as the model':>13} {'files':>9} {'one image':>10}")
for (name, run), file in zip(runtimes.items(), files, strict=True):
    logits = run(images)
    right = int((logits.argmax(-1) == labels).sum())
    same = int((logits.argmax(-1) == model.argmax(-1)).sum())
    size = sum(p.stat().st_size for p in Path(file).rglob("*") if p.is_file()) / 1e6
    table[name] = size, milliseconds(run)
    print(f"{name:18} {right:>8} {same:>13} {size:>6.2f} MB {table[name][1]:>7.2f} ms")

# %% alt="Size and time per image of the four exports, the smallest of each in orange"
import matplotlib.pyplot as plt

from keras_qkformer.analysis.colours import OFF, ON

blue, orange = np.array(OFF) / 255, np.array(ON) / 255
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.4), sharey=True)
for axes, column, title, form in (
    (left, 0, "Files, MB", "%.2f"),
    (right, 1, "Time of one image, ms", "%.2f"),
):
    values = [row[column] for row in table.values()]
    colours = [orange if value == min(values) else blue for value in values]
    bars = axes.barh(list(table), values, 0.65, color=colours)
    axes.bar_label(bars, fmt=form, padding=4)
    axes.set_title(title, loc="left", fontsize=11, weight="bold")
    axes.set(xticks=[], xlim=(0, 1.2 * max(values)))
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(left=False)
left.invert_yaxis()
figure.tight_layout()

# %% [markdown]
"""
Measured on the machine that built this page, whose cores had other work too. So small a model is
mostly overhead; [larger ones on quiet cores](../serving.md#measured) are another matter. The
SavedModel brings all signatures, warm-up requests and examples along.

## A stream

A model of event frames is also exported as a function of one frame and a state, here for OpenVINO,
in ONNX and LiteRT alike. All of the state is zero before the first frame; what comes back under
`next_...` goes in with the next one. That is all a program has to do:
"""

# %%
export_portable("weights/dvs_digits", "dvs_digits.openvino", "openvino")
stream = openvino.Core().compile_model("dvs_digits.openvino/stream.xml", "CPU", hint)
state = {}
for entry in stream.inputs:
    shape = [axis.get_length() for axis in list(entry.partial_shape)[1:]]
    state[entry.any_name] = np.zeros((1, *shape), entry.element_type.to_dtype())

events = load_trained("weights/dvs_digits")
step, ours = events.stream()
for number, frame in enumerate(events.read("seven.aedat"), 1):
    outputs = stream({**state, "frame": frame[None].astype("float32")})
    for name in state.keys() - {"frame"}:
        state[name] = outputs[f"next_{name}"]
    logits, ours = step(events.prepared(frame[None]), ours)
    away = np.abs(outputs["logits"] - logits).max()
    seen = events.class_names[outputs["logits"].argmax()]
    print(f"frame {number}: {seen}, logits within {away:.0e} of Keras")

# %% [markdown]
"""
## What to read next

- [Serving](../serving.md): signatures, bad items, versions, what `metadata.json` tells.
- [An event camera](event_camera.md): the same stream, live.
- [Files of strangers](../security.md#served-models-and-the-client): what a server refuses.
"""
