"""Training and held-out examples, made from settings and a model's input shape."""

import dataclasses
import functools

import numpy as np

from keras_qkformer.data import pipeline, sources
from keras_qkformer.data.images import affine
from keras_qkformer.data.images import augment as images_augment
from keras_qkformer.data.images.encoded_images import EncodedImages, plain_errors
from keras_qkformer.data.preprocessing import Preprocessing
from keras_qkformer.data.recordings import augment as recordings_augment
from keras_qkformer.data.recordings.event_noise import change_events


class Examples:
    """Examples of a source, preprocessed for a model of one input shape.

    Args:
        settings: `Data`.
        input_shape: `(height, width, channels)` for a model of images, `(time, height,
            width, 2)` for one of event frames.
        seed: int. Seed of the order of training examples and of augmentation.
        label_smoothing: float in [0, 1). Applied by image and event augmentation,
            before they mix labels; ignored without them.
        max_steps: int or `None`. Maximum number of batches per epoch and per held-out
            split.
        preprocessing: `Preprocessing` of a trained model, or `None` to derive it from
            the settings.

    Attributes:
        source: the `Source`.
        class_names: tuple of str, in the order of the labels.
        damaged: dict `{name: reason}` of the images that could not be decoded so far.

    Raises:
        ValueError: if the source is unknown or a setting does not fit it.

    Example:
    >>> from keras_qkformer.data.settings import Data
    >>> settings = Data(name="digits", train="train", validation="test[:100]",
    ...                 test="test[100:]", batch_size=64)
    >>> examples = Examples(settings, (8, 8, 1))
    >>> images, labels = next(iter(examples.training(first_epoch=0, epochs=1)))
    >>> images.shape, len(examples.class_names)
    ((64, 8, 8, 1), 10)
    """

    def __init__(
        self,
        settings,
        input_shape,
        *,
        seed=0,
        label_smoothing=0.0,
        max_steps=None,
        preprocessing=None,
    ):
        self.settings = settings
        self.input_shape = tuple(input_shape)
        self.seed = seed
        self.label_smoothing = label_smoothing
        self.max_steps = max_steps
        self.static = len(self.input_shape) == 3
        self.source = sources.get_source(settings.name, **self._source_options())
        self.class_names = self.source.class_names
        self.damaged = self.source.damaged
        if preprocessing is not None:
            self.preprocessing = preprocessing

    def _source_options(self):
        settings = self.settings
        return {
            "data_dir": settings.data_dir,
            "sensor_size": settings.sensor_size,
            "frames_by": settings.frames_by,
            "window_us": settings.window_us,
            "max_gap_us": settings.max_gap_us,
            "strict": settings.strict or None,
            "channels": self.input_shape[-1],
            "time_steps": None if self.static else self.input_shape[0],
            "events_only": self._changes_events,
        }

    @property
    def _changes_events(self):
        augmentation = self.settings.event_augmentation
        return augmentation is not None and augmentation.changes_events

    @functools.cached_property
    def preprocessing(self):
        """The `Preprocessing` used outside training: set that of a trained model.

        Raises:
            ValueError: if `mean` or `std` has another number of channels than the
                model, or a setting is not for its inputs.
        """
        settings, channels = self.settings, self.input_shape[-1]
        statistics = {}
        for name in ("mean", "std"):
            given = getattr(settings, name)
            values = list(getattr(self.source, name) if given is None else given)
            statistics[name] = values
            if len(values) != channels:
                raise ValueError(
                    f"data.{name} must have {channels} values, one per channel of the "
                    f"model. Received: {values}"
                )
        options = {}
        if self.static:
            options["crop"] = settings.evaluation_crop
            if settings.image_augmentation:
                options["interpolation"] = settings.image_augmentation.interpolation
        elif settings.evaluation_crop != 1:
            raise ValueError(
                "data.evaluation_crop is for images, not for event frames. "
                f"Received: {settings.evaluation_crop}"
            )
        return Preprocessing(
            image_size=self.input_shape[-3:-1],
            max_value=self.source.max_value,
            **statistics,
            **options,
        )

    def load(self, split, on_demand=False):
        """Load inputs and labels of a split, see `sources.load_split`.

        Args:
            split: str. Name of the split, perhaps with a slice.
            on_demand: bool. Whether even small inputs are read only when needed.

        Returns:
            `(inputs, labels)`.

        Raises:
            ValueError: if there is no such split, or the model can't take its inputs.
        """
        inputs, labels = sources.load_split(self.source, split, on_demand)
        wanted = self.input_shape
        if len(inputs.shape) != 1 + len(wanted) or inputs.shape[-1] != wanted[-1]:
            raise ValueError(
                f"The model takes inputs {wanted} of any size in pixels. "
                f"Received: {inputs.shape[1:]} from {self.settings.name!r}"
            )
        return inputs, labels

    @functools.cached_property
    def train(self):
        """`(inputs, labels)` of the training split, see `load`."""
        return self.load(self.settings.train, on_demand=self._changes_events)

    @property
    def steps(self):
        """Training batches per epoch."""
        count = len(self.train[1])
        return min(count // self.settings.batch_size, self.max_steps or count)

    def training(self, *, first_epoch, epochs, augmented=True, **options):
        """Make training batches, see `pipeline.training_dataset`.

        Args:
            first_epoch: int. First epoch, from 0.
            epochs: int. Exclusive end epoch.
            augmented: bool. Whether the batches are augmented.
            **options: `steps`, `shard` and `splittable` of `training_dataset`.

        Returns:
            `tf.data.Dataset` of `(model input, labels)`.
        """
        return pipeline.training_dataset(
            *self.train,
            batch_size=self.settings.batch_size,
            seed=self.seed,
            first_epoch=first_epoch,
            epochs=epochs,
            **self.training_functions | ({} if augmented else {"augment": None}),
            **options,
        )

    def held_out(self, split, shard=(0, 1)):
        """Load a split for evaluation, without damaged images.

        Args:
            split: str. Name of the split, perhaps with a slice.
            shard: `(index, count)`: loads part `index` of `count` consecutive parts,
                equal up to one example.

        Returns:
            `(inputs, labels)`, see `sources.load_split`.
        """
        inputs, labels = self.load(split)
        if self.max_steps is not None:
            count = self.max_steps * self.settings.batch_size
            inputs, labels = inputs[:count], labels[:count]
        index, count = shard
        start, stop = (i * len(labels) // count for i in (index, index + 1))
        inputs, labels = inputs[start:stop], labels[start:stop]
        if isinstance(inputs, EncodedImages):
            inputs, labels = inputs.without_damaged(labels)
        return inputs, labels

    def evaluation(self, inputs, labels, *, multiple_of=1, shard=(0, 1)):
        """Make batches of `held_out` examples, see `pipeline.evaluation_dataset`."""
        return pipeline.evaluation_dataset(
            inputs,
            labels,
            transform=self.preprocessing,
            batch_size=self.settings.batch_size,
            multiple_of=multiple_of,
            shard=shard,
        )

    def pictures(self, inputs):
        """Return inputs as an array; encoded images are decoded and resized.

        Resized images keep the border that evaluation crops, so that `preprocessing`
        still applies to them.
        """
        if not isinstance(inputs, EncodedImages):
            return np.asarray(inputs)
        pixels = self.preprocessing.uncropped().pixels
        return np.stack([pixels(inputs.decode(i)).numpy() for i in range(len(inputs))])

    def plain_errors(self):
        """Context manager that turns errors of damaged images into `ValueError`."""
        return plain_errors(self.damaged)

    @functools.cached_property
    def training_functions(self):
        """`transform`, `augment`, `window` and `change` of `training_dataset`, a dict.

        Raises:
            ValueError: if an augmentation does not fit the data.
        """
        inputs, _ = self.train
        settings, preprocessing = self.settings, self.preprocessing
        functions = {"transform": preprocessing, "augment": self.augmentation()}
        if self._changes_events:
            if getattr(inputs, "finish", None) is None:
                raise ValueError(
                    "data.event_augmentation changes events, so the source must give "
                    "them: an OnDemand with finish. "
                    f"Received: {type(inputs).__name__} from {settings.name!r}"
                )
            functions["change"] = functools.partial(
                change_events,
                settings=settings.event_augmentation,
                sensor_size=inputs.shape[2:4],
            )
        images = settings.image_augmentation
        if images and images.random_resized_crop:
            uncropped = dataclasses.replace(preprocessing, crop=None)
            functions["transform"] = uncropped.pixels
            functions["window"] = functools.partial(
                images_augment.random_window,
                scale=images.random_resized_crop,
                ratio=images.crop_ratio,
            )
        elif images:
            functions["transform"] = preprocessing.pixels
        return functions

    def augmentation(self):
        """Return the `augment` of `pipeline.training_dataset`, or `None`.

        Raises:
            ValueError: if an augmentation does not fit the data.
        """
        settings, static = self.settings, self.static
        images, events = settings.image_augmentation, settings.event_augmentation
        amounts = {
            "max_shift": settings.max_shift,
            "max_rotation": settings.max_rotation,
            "max_zoom": settings.max_zoom,
        }
        if any(amounts.values()) and not static:
            raise ValueError(
                "max_shift, max_rotation and max_zoom are for images, not for event "
                f"frames. Received: {amounts}"
            )
        if events and static:
            raise ValueError(
                "data.event_augmentation is for event frames, not for images. "
                f"Received: {events}"
            )
        if images and (any(amounts.values()) or not static):
            raise ValueError(
                "data.image_augmentation is for images, and instead of max_shift, "
                f"max_rotation and max_zoom. Received: {amounts} and a model of "
                f"{'images' if static else 'event frames'}"
            )
        if images and self.preprocessing.max_value != 255:
            raise ValueError(
                "data.image_augmentation is for pixels from 0 to 255. Received: "
                f"max_value={self.preprocessing.max_value} of {settings.name!r}"
            )
        labels = {
            "num_classes": len(self.class_names),
            "label_smoothing": self.label_smoothing,
        }
        if images:
            return functools.partial(
                images_augment.augment,
                settings=images,
                mean=self.preprocessing.mean,
                std=self.preprocessing.std,
                **labels,
            )
        if any(amounts.values()):
            return functools.partial(affine.augment_images, **amounts)
        if events is None:
            return None
        recordings_augment.check_flip(events.flip, labels["num_classes"])
        return functools.partial(recordings_augment.augment, settings=events, **labels)
