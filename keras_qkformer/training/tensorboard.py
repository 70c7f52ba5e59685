"""What a training writes for TensorBoard."""

import contextlib
import shutil
from pathlib import Path

import keras
import numpy as np

from keras_qkformer.analysis.firing_rate import firing_rate_model
from keras_qkformer.files import writing
from keras_qkformer.ops.inference import run_rarely
from keras_qkformer.training.recipe import field_values
from keras_qkformer.training.workdir import LOGS_FOLDER

LOSSES_PER_EPOCH = 50
"""The loss of a step is written about so often, at equal distances."""


@contextlib.contextmanager
def _writing_logs(folder):
    """Like `files.writing`; TensorFlow has errors of its own for a full disk."""
    import tensorflow as tf

    with writing(folder):
        try:
            yield
        except tf.errors.OpError as error:
            raise OSError(error.message) from error


class Logs(keras.callbacks.TensorBoard):
    """`TensorBoard` that numbers epochs from 1; failure to write is an `OSError`."""

    def on_train_begin(self, logs=None):
        with _writing_logs(self.log_dir):
            super().on_train_begin(logs)

    def on_test_begin(self, logs=None):
        with _writing_logs(self.log_dir):
            super().on_test_begin(logs)

    def on_test_end(self, logs=None):
        with _writing_logs(self.log_dir):
            super().on_test_end(logs)

    def on_epoch_end(self, epoch, logs=None):
        with _writing_logs(self.log_dir):
            super().on_epoch_end(epoch + 1, logs)

    def on_train_end(self, logs=None):
        with _writing_logs(self.log_dir):
            super().on_train_end(logs)


class Pictures(keras.callbacks.Callback):
    """Writes firing rates of every layer, losses of steps, and augmented images.

    `loss_of_step` is the mean loss of the steps since the value before it.
    Images are written by the first run of a training, not again after an interruption.

    Args:
        folder: path of the log folder of training.
        examples: array of validation inputs, as the model takes them: `(examples,
            height, width, channels)` or `(examples, time, height, width, channels)`.
        training: `tf.data.Dataset` of training batches, of which the first is shown.
            Frames of events are not.
        preprocessing: the `Preprocessing` whose normalization is undone.
    """

    def __init__(self, folder, examples, training, preprocessing):
        super().__init__()
        self.folder = Path(folder)
        self.examples = examples
        self.training = training
        self.mean = np.asarray(preprocessing.mean, "float32")
        self.std = np.asarray(preprocessing.std, "float32")
        self.writer = self.rates = None
        self.epoch = self.steps = 0
        self.loss = 0.0  # The sum over these steps of the epoch.
        self.is_resumed = self.folder.is_dir()

    def on_epoch_begin(self, epoch, logs=None):
        import tensorflow as tf

        self.epoch, self.steps, self.loss = epoch, 0, 0.0
        if self.writer is not None:
            return
        self.rates = run_rarely(firing_rate_model(self.model))
        with _writing_logs(self.folder):
            self.writer = tf.summary.create_file_writer(str(self.folder))
        if self.examples.ndim == 4 and not self.is_resumed:
            (images, _), *_ = self.training.take(1).as_numpy_iterator()
            images = np.clip(images[:16] * self.std + self.mean, 0, 1)
            with _writing_logs(self.folder), self.writer.as_default():
                tf.summary.image("augmented", images, step=epoch + 1, max_outputs=16)

    def on_train_batch_end(self, batch, logs=None):
        steps = self.params["steps"]
        if batch % max(1, steps // LOSSES_PER_EPOCH) == 0:
            import tensorflow as tf

            # Keras tells the mean since the epoch began.
            total = float(logs["loss"]) * (batch + 1)
            loss = (total - self.loss) / (batch + 1 - self.steps)
            self.steps, self.loss = batch + 1, total
            step = self.epoch * steps + batch + 1
            with _writing_logs(self.folder), self.writer.as_default():
                tf.summary.scalar("loss_of_step", loss, step=step)

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        rates = self.rates.predict(self.examples, verbose=0)
        with _writing_logs(self.folder), self.writer.as_default():
            for path, rate in rates.items():
                tf.summary.scalar(f"firing_rate/{path}", rate.mean(), step=epoch + 1)

    def on_train_end(self, logs=None):
        with _writing_logs(self.folder):
            self.writer.close()


def log_results(workdir, recipe, results, figures=()):
    """Write the test scores, the recipe as hyperparameters, and the figures.

    They replace those of an earlier call.

    Args:
        workdir: path of the workdir.
        recipe: its `Recipe`.
        results: dict, see `fit.fit`.
        figures: paths of PNG files, named as they are to be shown.
    """
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    folder = Path(workdir) / LOGS_FOLDER / "test"
    shutil.rmtree(folder, ignore_errors=True)
    step = results["best"]["epoch"]
    with _writing_logs(folder):
        writer = tf.summary.create_file_writer(str(folder))
        with contextlib.closing(writer), writer.as_default():
            api.hparams(
                {
                    name: value
                    for name, value in field_values(recipe).items()
                    if isinstance(value, bool | int | float | str)
                }
            )
            for name, value in results["test"].items():
                if isinstance(value, float):
                    tf.summary.scalar(f"test_{name}", value, step=step)
            for path in map(Path, figures):
                image = tf.io.decode_png(path.read_bytes(), channels=3)
                tf.summary.image(path.stem, image[None], step=step)
