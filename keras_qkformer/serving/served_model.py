"""The signatures of a served model: TensorFlow functions of plain operations."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_qkformer.data.tracing import without_autograph
from keras_qkformer.layers.neuron_scope import neuron_scope
from keras_qkformer.models import StreamingClassifier
from keras_qkformer.serving import stage_outputs
from keras_qkformer.serving.agreement import in_float64
from keras_qkformer.serving.folding import fold
from keras_qkformer.serving.image_bytes import decode_images
from keras_qkformer.serving.padded_events import padded_events_to_frames

SPIKES = "spikes_"  # What the names of these outputs start with.


class ServedModel:
    """A classifier with folded BatchNorm, and its signatures for a server.

    Every signature accepts any batch size and returns

        labels      string (batch, top)     names of the most probable classes
        scores      (batch, top)            their probabilities, largest first
        class_ids   int64 (batch, top)      their class numbers
        logits      (batch, classes)

    If an item can't be answered, the whole request fails with an error that names every
    bad item. The lenient signatures answer the other items: they have one more output
    `status`, string `(batch,)`, which is empty for a good item and else says what is
    wrong. A bad item has empty labels, `class_ids` -1, and 0 as scores and logits.

    Differences from the model: with `"bfloat16"` or `"int8"` the weights of the
    convolutions are rounded; the arithmetic is that of the model.

    Args:
        trained: `TrainedModel`. Its model is folded in place, and is afterwards of use
            only here.
        weights: str. Type in which to store the kernels of convolutions: `"float32"`,
            `"bfloat16"`, or `"int8"` with one scale per output channel.
        top: int > 0. How many classes to name, at most all.
        max_pixels: int > 0. Larger image files are refused before decoding.
        stages: bool. Whether the functions for other runtimes also return what
            `stage_outputs` lists.

    Attributes:
        signatures: dict from names to `tf.function`s.
        image_size: (height, width) that the model sees.
        input_name: str. `"images"` or `"frames"`.
        preprocessing: `Preprocessing` of the model.
        stages: bool, as given.
        stream: `StreamingClassifier`, or `None` for a model of images.
        frames: dict with `sensor_size` and `frames_by`, which say how events become
            frames, or `None` for a model of images.

    Raises:
        ValueError: if the model and its metadata differ in the number of classes.
    """

    def __init__(
        self, trained, weights="float32", top=5, max_pixels=25_000_000, stages=False
    ):
        model, backbone = trained.model, trained.model.backbone
        self._model = model
        self.stages = stages
        self.image_size = tuple(backbone.image_size)
        self.preprocessing = trained.preprocessing
        names = [str(name) for name in trained.class_names]
        if len(names) != model.num_classes:
            raise ValueError(
                f"The model must have the {len(names)} classes of its metadata. "
                f"Received: num_classes={model.num_classes}"
            )
        self._names = names
        self._top = min(top, len(names))
        self._max_pixels = max_pixels
        fold(model, weights)
        shape = (None, *model.input_shape[1:])
        # All signatures call this function, so the model's graph is stored once.
        self._logits = _graph(
            lambda x: model(x, training=False),
            [tf.TensorSpec(shape, model.input.dtype)],
        )
        if backbone.static:
            self.input_name, self.frames, self.stream = "images", None, None
            self.signatures = self._image_signatures()
        else:
            self.input_name = "frames"
            self.frames = trained.frame_options
            self.stream = StreamingClassifier(model)
            self.signatures = self._event_signatures()

    @functools.cached_property
    def reference(self):
        """The same model in float64, not folded, to check what is written."""
        return in_float64(self._model)

    def save(self, folder):
        """Write the SavedModel, with the class names in `assets/labels.txt`.

        Args:
            folder: str or path of the version to write.
        """
        with tempfile.TemporaryDirectory() as place:
            labels = Path(place) / "labels.txt"
            labels.write_text("".join(f"{name}\n" for name in self._names), "utf-8")
            labels = tf.saved_model.Asset(str(labels))
            save_functions(folder, self.signatures, labels=labels)

    def portable(self, spikes=False):
        """Return the functions for other runtimes, as a dict by name.

        Args:
            spikes: bool. Whether the functions also return the spikes of every neuron,
                `(batch, time, ...)`, for `compare_spikes`. The names of these outputs
                are those of `SpikingClassifier.neurons`, after `spikes_`.

        `model` takes images or frames at the model's height and width, before
        normalization, and returns `logits`. `stream`, only for event frames, takes
        `frame` and the state, and returns `logits` and the state for the next call. The
        names of the returned state start with `next_`, because these formats need
        distinct names for inputs and outputs.
        """
        shape = (None, *self._model.input_shape[1:])

        def whole(x):
            x = self.preprocessing.normalized(x)

            def answer(fired=None):
                if self.stages:
                    return _copies(stage_outputs.whole(self._model, x, fired))
                if spikes:
                    return {"logits": self._model(x, training=False)}
                return {"logits": self._logits(x)}

            return self._with_spikes(answer) if spikes else answer()

        spec = [tf.TensorSpec(shape, "float32", self.input_name)]
        functions = {"model": _graph(whole, spec)}
        if self.stream is None:
            return functions

        def step(frame, *state):
            frame = self.preprocessing.normalized(frame)
            state = dict(zip(self.stream.state_spec, state, strict=True))

            def answer(fired=None):
                if self.stages:
                    outputs, after = stage_outputs.of_frame(
                        self.stream, frame, state, fired
                    )
                else:
                    logits, after = self.stream(frame, state)
                    outputs = {"logits": logits}
                after = {f"next_{name}": value for name, value in after.items()}
                return {**_copies(outputs), **after}

            return self._with_spikes(answer) if spikes else answer()

        specs = [tf.TensorSpec((None, *shape[2:]), "float32", "frame")]
        for name, entry in self.stream.state_spec.items():
            specs.append(tf.TensorSpec((None, *entry.shape), entry.dtype, name))
        return {**functions, "stream": _graph(step, specs)}

    def _with_spikes(self, answer):
        """Return the outputs of `answer`, and the spikes of every neuron in it."""
        fired = {}
        with neuron_scope(record=fired):
            outputs = answer(fired)
        spikes = {SPIKES + n: fired[x] for n, x in self._model.neurons().items()}
        return {**outputs, **_copies(spikes)}

    def resized(self, inputs):
        """Resize images or frames to the model's height and width, not normalized.

        Args:
            inputs: array `(batch, [time,] height, width, channels)`.

        Returns:
            float32 array `(batch, [time,] *image_size, channels)`.
        """
        return self.preprocessing.resized(inputs).numpy()

    def stream_rest(self, batch):
        """Return the state of `stream` before the first frame.

        Args:
            batch: int > 0. Number of samples.

        Returns:
            Dict from names to arrays, batch first.
        """
        return {
            name: np.full((batch, *entry.shape), entry.rest, entry.dtype)
            for name, entry in self.stream.state_spec.items()
        }

    def normalized(self, inputs):
        """Return the model's inputs, from what `resized` returns.

        Args:
            inputs: float32 array `(batch, [time,] *image_size, channels)`.

        Returns:
            float array of the same shape.
        """
        return self.preprocessing.normalized(inputs).numpy()

    def logits(self, inputs):
        """Return the logits of images or frames before preprocessing.

        Args:
            inputs: array `(batch, [time,] height, width, channels)`, any height and
                width.

        Returns:
            Tensor `(batch, classes)`.
        """
        return self._logits(self.preprocessing(inputs))

    def _image_signatures(self):
        backbone = self._model.backbone
        channels = backbone.in_channels
        shape = (None, None, None, channels)
        signatures = {
            "predict_pixels": self._pixels(tf.TensorSpec(shape, "float32", "images")),
            "predict_pixels_uint8": self._pixels(
                tf.TensorSpec(shape, "uint8", "images")
            ),
        }
        if channels not in (1, 3):  # Image files have 1 or 3 channels.
            return {"serving_default": signatures["predict_pixels"], **signatures}

        def decode(image_bytes):
            return decode_images(
                image_bytes,
                channels,
                self.preprocessing,
                (*backbone.image_size, channels),
                self._max_pixels,
            )

        spec = [tf.TensorSpec((None,), "string", "image_bytes")]
        return {
            "serving_default": self._strict(decode, spec),
            "predict_lenient": self._lenient(decode, spec),
            **signatures,
        }

    def _event_signatures(self):
        backbone = self._model.backbone
        shape = (None, backbone.time_steps, None, None, backbone.in_channels)
        predict_frames = self._pixels(tf.TensorSpec(shape, "float32", "frames"))
        signatures = {
            "serving_default": predict_frames,
            "predict_frames": predict_frames,
            "stream": self._stream(),
        }
        if backbone.in_channels != 2 or self.frames["frames_by"] == "voxel":
            return signatures  # The graph makes no voxel grids from events.

        def count(t, x, y, p, num_events):
            frames, reasons = padded_events_to_frames(
                t,
                x,
                y,
                p,
                num_events,
                num_frames=backbone.time_steps,
                sensor_size=self.frames["sensor_size"],
                split_by=self.frames["frames_by"],
            )
            return self.preprocessing(frames), reasons

        spec = [
            tf.TensorSpec((None, None), dtype, name)
            for name, dtype in (("t", "int64"), *((n, "int32") for n in "xyp"))
        ]
        spec.append(tf.TensorSpec((None,), "int32", "num_events"))
        return {
            **signatures,
            "predict_events": self._strict(count, spec),
            "predict_events_lenient": self._lenient(count, spec),
        }

    def _pixels(self, spec):
        """Make a signature that takes images or frames as tensors."""

        def read(values):
            return self.preprocessing(values), self._faults(values)

        return self._strict(read, [spec])

    def _faults(self, values):
        """Return what is wrong with each of these images or frames, or nothing."""
        if not values.dtype.is_floating:
            return tf.fill(tf.shape(values)[:1], "")
        axes = list(range(1, values.shape.rank))
        least, most = 0.0, 255.0
        if self.frames is not None:  # Counts, or a voxel grid, which may be negative.
            most = values.dtype.max
            least = -most if self.frames["frames_by"] == "voxel" else 0.0
        # NaN fails every comparison.
        inside = tf.reduce_all((values >= least) & (values <= most), axes)
        finite = tf.reduce_all(tf.math.is_finite(values), axes)
        wanted = f"from {least:g}" + (f" to {most:g}" if self.frames is None else "")
        reasons = tf.where(inside, "", f"with values that are not {wanted}")
        return tf.where(finite, reasons, "with values that are not finite")

    def _strict(self, read, specs):
        """Make a signature that raises if an item can't be answered."""
        name = specs[0].name if len(specs) == 1 else "recording"

        def answer(*inputs):
            inputs = _checked(inputs, specs)
            x, reasons = read(*inputs)
            with tf.control_dependencies([_assert_none(reasons, name)]):
                x = tf.identity(x)
            return self._answers(self._logits(tf.cast(x, self._model.input.dtype)))

        return _graph(answer, specs)

    def _lenient(self, read, specs):
        """Make a signature that reports for each item what is wrong with it."""

        def answer(*inputs):
            inputs = _checked(inputs, specs)
            x, reasons = read(*inputs)
            answers = self._answers(self._logits(tf.cast(x, self._model.input.dtype)))
            good = (reasons == "")[:, None]
            return {
                "labels": tf.where(good, answers["labels"], ""),
                "scores": tf.where(good, answers["scores"], 0),
                "class_ids": tf.where(good, answers["class_ids"], -1),
                "logits": tf.where(good, answers["logits"], 0),
                "status": reasons,
            }

        return _graph(answer, specs)

    def _stream(self):
        """Make a signature that takes one frame and the state of `stream`."""

        def answer(inputs):
            state = {name: inputs[name] for name in self.stream.state_spec}
            faults = self._faults(inputs["frame"])
            with tf.control_dependencies([_assert_none(faults, "frame")]):
                frame = self.preprocessing(tf.identity(inputs["frame"]))
            logits, state = self.stream(frame, state)
            return {**self._answers(logits), **state}

        specs = {
            name: tf.TensorSpec((None, *entry.shape), entry.dtype, name)
            for name, entry in self.stream.state_spec.items()
        }
        shape = (None, None, None, self._model.backbone.in_channels)
        specs["frame"] = tf.TensorSpec(shape, "float32", "frame")
        return _graph(answer, [specs])

    def _answers(self, logits):
        scores, class_ids = tf.math.top_k(tf.nn.softmax(logits), self._top)
        return {
            "labels": tf.gather(tf.constant(self._names), class_ids),
            "scores": scores,
            "class_ids": tf.cast(class_ids, tf.int64),
            "logits": logits,
        }


def _copies(outputs):
    """Copy tensors: an output must not be another one, or part of the state."""
    return {name: tf.identity(value) for name, value in outputs.items()}


def _graph(function, specs):
    """Make a `tf.function` of one signature, a list of `tf.TensorSpec`."""
    return tf.function(without_autograph(function), input_signature=specs)


def _checked(inputs, specs):
    """Return the inputs, after checks for empty batches and different sizes."""
    sizes = tf.stack([tf.shape(values)[0] for values in inputs])
    checks = [
        tf.debugging.Assert(
            tf.reduce_all(sizes > 0), ["A batch must have items. Received: none"]
        )
    ]
    if len(inputs) > 1:
        rows = tf.stack([tf.shape(values)[1] for values in inputs[:-1]])
        same = tf.reduce_all(sizes == sizes[0]) & tf.reduce_all(rows == rows[0])
        names = ", ".join(spec.name for spec in specs[:-1])
        checks.append(
            tf.debugging.Assert(
                same, [f"{names} must have the same shape, num_events one per row"]
            )
        )
    with tf.control_dependencies(checks):
        return [tf.identity(values) for values in inputs]


def _assert_none(reasons, name):
    """Assert that no item has a reason; the error names every item that has one."""
    bad = tf.where(reasons != "")[:, 0]
    each = tf.strings.join(
        [f"{name}[", tf.strings.as_string(bad), "] is ", tf.gather(reasons, bad)]
    )
    message = tf.strings.reduce_join(each, separator="; ")
    return tf.debugging.Assert(tf.size(bad) == 0, [message], summarize=1)


def save_functions(folder, functions, **attributes):
    """Write functions as the signatures of a SavedModel.

    Args:
        folder: str or path.
        functions: dict from names to functions with an `input_signature`.
        **attributes: trackable objects to save with them, such as assets.
    """
    module = tf.Module()
    concrete = {
        name: function.get_concrete_function() for name, function in functions.items()
    }
    variables = [v for f in concrete.values() for v in f.graph.variables]
    # Only attributes of the module are saved.
    module.kept = list({id(variable): variable for variable in variables}.values())
    for name, value in attributes.items():
        setattr(module, name, value)
    tf.saved_model.save(
        module,
        str(folder),
        concrete,
        # Inference needs no gradients.
        tf.saved_model.SaveOptions(experimental_custom_gradients=False),
    )
