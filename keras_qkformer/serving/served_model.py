"""The signatures of a served model, as TensorFlow functions: plain operations only."""

import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_qkformer.models import StreamingClassifier
from keras_qkformer.serving.folding import fold
from keras_qkformer.serving.image_bytes import decode_images
from keras_qkformer.serving.padded_events import padded_events_to_frames


class ServedModel:
    """A classifier whose BatchNorms are part of its convolutions, and its signatures.

    Every signature answers with

        labels      string (batch, top)     names of the most probable classes
        scores      (batch, top)            their probabilities, largest first
        class_ids   int64 (batch, top)      their numbers
        logits      (batch, classes)

    for a batch of any size. An item that can't be answered is an error of the whole
    request, which names all such items. The lenient signatures answer the others; they
    have one more output `status`, string `(batch,)`: empty, or what is wrong with the
    item, whose labels are then empty, class_ids -1 and numbers 0.

    Differences from the model: with bfloat16 or int8 the weights of the convolutions
    are rounded; the arithmetic is that of the model.

    Args:
        trained: a `TrainedModel`. From then on its model has the folded weights and is
            of use only here.
        weights: how the kernels of convolutions are kept: `"float32"`, `"bfloat16"`, or
            `"int8"` with one scale per output channel.
        top: int > 0. How many classes to name.
        max_pixels: int. Larger image files are refused before they are decoded.

    Attributes:
        signatures: dict from names to functions.
        image_size: (height, width) that the model sees.
        input_name: `"images"` or `"frames"`.
        stream: `StreamingClassifier`, or `None` for a model of images.
        frames: dict with `sensor_size` and `frames_by`, how events become frames, or
            `None` for a model of images.
    """

    def __init__(self, trained, weights="float32", top=5, max_pixels=25_000_000):
        model, backbone = trained.model, trained.model.backbone
        self._model = model
        self.image_size = tuple(backbone.image_size)
        self._preprocessing = trained.preprocessing
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
        # All signatures call this one, so the graph of the model is there once.
        self._logits = tf.function(
            lambda x: model(x, training=False),
            input_signature=[tf.TensorSpec(shape, model.input.dtype)],
        )
        if backbone.static:
            self.input_name, self.frames, self.stream = "images", None, None
            self.signatures = self._image_signatures()
        else:
            self.input_name = "frames"
            self.frames = trained.frame_options
            self.stream = StreamingClassifier(model)
            self.signatures = self._event_signatures()

    def save(self, folder):
        """Write the SavedModel, with the names of the classes as `assets/labels.txt`.

        Args:
            folder: str or path of the version.
        """
        with tempfile.TemporaryDirectory() as place:
            labels = Path(place) / "labels.txt"
            labels.write_text("".join(f"{name}\n" for name in self._names))
            labels = tf.saved_model.Asset(str(labels))
            save_functions(folder, self.signatures, labels=labels)

    def portable(self):
        """Functions for other runtimes: dict from names to functions.

        `model` takes images or frames of the size that the model sees, with values as
        `serving_default` has them, and gives `logits`. `stream`, of a model of event
        frames, takes `frame` and the state, and gives `logits` and the state for the
        next call, with `next_` before its names: these formats know no two tensors of
        one name.
        """
        shape = (None, *self._model.input_shape[1:])
        functions = {
            "model": tf.function(
                lambda x: {"logits": self._logits(self._preprocessing.normalized(x))},
                input_signature=[tf.TensorSpec(shape, "float32", self.input_name)],
            )
        }
        if self.stream is None:
            return functions

        def step(frame, *state):
            frame = self._preprocessing.normalized(frame)
            state = dict(zip(self.stream.state_spec, state, strict=True))
            logits, state = self.stream(frame, state)
            state = {f"next_{name}": value for name, value in state.items()}
            # The mean is part of the state too.
            return {"logits": tf.identity(logits), **state}

        specs = [tf.TensorSpec((None, *shape[2:]), "float32", "frame")]
        for name, entry in self.stream.state_spec.items():
            specs.append(tf.TensorSpec((None, *entry.shape), entry.dtype, name))
        return {**functions, "stream": tf.function(step, input_signature=specs)}

    def resized(self, inputs):
        """Images or frames of the size that the model sees, not normalized.

        Args:
            inputs: array `(batch, [time,] height, width, channels)`.

        Returns:
            float32 array `(batch, [time,] *image_size, channels)`.
        """
        return self._preprocessing.resized(inputs).numpy()

    def stream_rest(self, batch):
        """The state of `stream` before the first frame.

        Args:
            batch: int > 0. How many samples.

        Returns:
            Dict from names to arrays, batch first.
        """
        return {
            name: np.full((batch, *entry.shape), entry.rest, entry.dtype)
            for name, entry in self.stream.state_spec.items()
        }

    def logits(self, inputs):
        """Logits of images or frames as their source has them.

        Args:
            inputs: array `(batch, [time,] height, width, channels)` of any size.

        Returns:
            Tensor `(batch, classes)`.
        """
        return self._logits(self._preprocessing(inputs))

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
        if channels not in (1, 3):  # There are no such image files.
            return {"serving_default": signatures["predict_pixels"], **signatures}

        def decode(image_bytes):
            return decode_images(
                image_bytes,
                channels,
                self._preprocessing,
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
            return signatures  # Frames alone: the server makes no voxel grids.

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
            return self._preprocessing(frames), reasons

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
        """Signature of images or frames as tensors."""

        def read(values):
            if spec.dtype.is_floating:
                axes = list(range(1, spec.shape.rank))
                finite = tf.reduce_all(tf.math.is_finite(values), axes)
                reasons = tf.where(finite, "", "with values that are not finite")
            else:
                reasons = tf.fill(tf.shape(values)[:1], "")
            return self._preprocessing(values), reasons

        return self._strict(read, [spec])

    def _strict(self, read, specs):
        """Signature that raises if an item can't be answered."""
        name = specs[0].name if len(specs) == 1 else "recording"

        def answer(*inputs):
            inputs = _checked(inputs, specs)
            x, reasons = read(*inputs)
            with tf.control_dependencies([_assert_none(reasons, name)]):
                x = tf.identity(x)
            return self._answers(self._logits(tf.cast(x, self._model.input.dtype)))

        return tf.function(answer, input_signature=specs)

    def _lenient(self, read, specs):
        """Signature that says for each item what is wrong with it."""

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

        return tf.function(answer, input_signature=specs)

    def _stream(self):
        """Signature of one frame and the state of a `StreamingClassifier`."""

        def answer(inputs):
            state = {name: inputs[name] for name in self.stream.state_spec}
            frame = self._preprocessing(inputs["frame"])
            logits, state = self.stream(frame, state)
            return {**self._answers(logits), **state}

        specs = {
            name: tf.TensorSpec((None, *entry.shape), entry.dtype, name)
            for name, entry in self.stream.state_spec.items()
        }
        shape = (None, None, None, self._model.backbone.in_channels)
        specs["frame"] = tf.TensorSpec(shape, "float32", "frame")
        return tf.function(answer, input_signature=[specs])

    def _answers(self, logits):
        scores, class_ids = tf.math.top_k(tf.nn.softmax(logits), self._top)
        return {
            "labels": tf.gather(tf.constant(self._names), class_ids),
            "scores": scores,
            "class_ids": tf.cast(class_ids, tf.int64),
            "logits": logits,
        }


def _checked(inputs, specs):
    """The inputs, with an error if a batch is empty or they differ in size."""
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
    """An assertion that names every item with a reason."""
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
        **attributes: what else the SavedModel holds.
    """
    module = tf.Module()
    concrete = {
        name: function.get_concrete_function() for name, function in functions.items()
    }
    variables = [v for f in concrete.values() for v in f.graph.variables]
    # What is not an attribute would not be saved.
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
