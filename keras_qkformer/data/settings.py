"""The settings of data and augmentation, declared once."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

# Strict: true is no number, and "5" neither. Only lists may stand for tuples.
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_LIST = Field(strict=False)
_Positive = Annotated[int, Field(gt=0)]
_NotNegative = Annotated[float, Field(ge=0)]
_Probability = Annotated[float, Field(ge=0, le=1)]
_Range = Annotated[
    tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]],
    _LIST,
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EventAugmentation:
    """Augmentation of training recordings.

    Events are changed first, see `data.recordings.event_noise`, then the frames made
    from them, see `data.recordings.augment`. The recipe's `label_smoothing` is applied
    once, before mixup.

    Attributes:
        flip: `"gestures"` flips left and right and gives the 11 gestures of DVS128
            Gesture the label of their mirror image. `"published"` flips and keeps
            labels, as the authors do: right for objects, wrong for gestures. `"none"`
            does not flip: right for digits and letters.
        operations: whether one of the six operations is drawn for every recording.
        mixup_alpha: the weight of the first partner is drawn from Beta(alpha, alpha).
        mixup_probability: probability that a batch is mixed; 0 disables mixup.
        mixup_off_epoch: first epoch, from 0, without mixup, or `None`.
        max_gain: the counts of each recording are multiplied by a random factor from
            1 / max_gain to max_gain.
        drop_events: probability that an event is dropped.
        drop_time: fraction of a recording's duration that loses all its events: one
            span at a random time.
        drop_area: fraction of the sensor's area that loses all its events: one
            rectangle at a random place.
        jitter_us: standard deviation of the random shift of each event in time, in
            microseconds.
        jitter_pixels: standard deviation of the random shift of each event on the
            sensor, in pixels.
        hot_pixels: number of pixels that fire throughout the recording.
        hot_pixel_hz: events per second of each hot pixel.
        noise_hz: background noise, in events per second and pixel.
        filter_us: a background-activity filter, applied with probability 1/2, keeps
            only events with an event of a neighbour at most this many microseconds
            before; `None` disables it.
    """

    flip: Literal["gestures", "published", "none"]
    operations: bool = True
    mixup_alpha: Annotated[float, Field(gt=0)] = 0.5
    mixup_probability: _Probability = 0.5
    mixup_off_epoch: Annotated[int, Field(ge=0)] | None = None
    max_gain: Annotated[float, Field(ge=1)] = 1.0
    drop_events: _Probability = 0.0
    drop_time: _Probability = 0.0
    drop_area: _Probability = 0.0
    jitter_us: _NotNegative = 0.0
    jitter_pixels: _NotNegative = 0.0
    hot_pixels: Annotated[int, Field(ge=0)] = 0
    hot_pixel_hz: _NotNegative = 100.0
    noise_hz: _NotNegative = 0.0
    filter_us: Annotated[int, Field(ge=0)] | None = None

    @property
    def changes_events(self):
        """Whether events are changed before frames are made from them."""
        drops = self.drop_events or self.drop_time or self.drop_area
        moves = self.jitter_us or self.jitter_pixels
        adds = self.hot_pixels or self.noise_hz
        return bool(drops or moves or adds) or self.filter_us is not None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImageAugmentation:
    """Augmentation of training images, see `keras_qkformer.data.images.augment`.

    In this order: crop, flip, policy, mixup or cutmix of the batch, normalization,
    erasing. The recipe's `label_smoothing` is applied once, before labels are mixed.

    Attributes:
        policy: `"randaugment"`: timm's, `rand-m{magnitude}-n{num_ops}-
            mstd{magnitude_std}-inc1`. `"keras_cv"`: RandAugment, MixUp and CutMix of
            keras_cv. `"none"`: no operation of colour or geometry.
        num_ops: operations per image that a policy draws.
        magnitude: strength of the operations, from 0 to 10.
        magnitude_std: standard deviation of the magnitude, drawn per operation.
        random_resized_crop: smallest and largest fraction of an image's area to crop,
            or `None` for the crop of evaluation, see `Data.evaluation_crop`.
        crop_ratio: smallest and largest width/height of the crop.
        flip: whether images are mirrored left to right, each with probability 1/2.
        interpolation: interpolation of resizing, in evaluation too, and of
            `"randaugment"`.
        erase_probability: probability that a rectangle of an image is erased.
        erase_mode: fills the rectangle with normal noise per pixel (`"pixel"`), one
            normally distributed colour (`"rand"`) or the mean colour (`"const"`).
        mixup_alpha: the weight of the first partner is drawn from Beta(alpha, alpha); 0
            disables mixup.
        cutmix_alpha: the kept area is drawn from Beta(alpha, alpha); 0 disables CutMix.
        mixup_probability: probability that a batch is mixed, by mixup or CutMix.
        mixup_switch_probability: probability that a mixed batch is mixed by CutMix, if
            both are enabled.
        mixup_off_epoch: first epoch, from 0, without mixup and CutMix, or `None`.
    """

    policy: Literal["none", "randaugment", "keras_cv"] = "none"
    num_ops: _Positive = 2
    magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0
    magnitude_std: Annotated[float, Field(ge=0)] = 0.5
    random_resized_crop: _Range | None = None
    crop_ratio: _Range = (3 / 4, 4 / 3)
    flip: bool = True
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    erase_probability: _Probability = 0.0
    erase_mode: Literal["pixel", "const", "rand"] = "pixel"
    mixup_alpha: Annotated[float, Field(ge=0)] = 0.0
    cutmix_alpha: Annotated[float, Field(ge=0)] = 0.0
    mixup_probability: _Probability = 1.0
    mixup_switch_probability: _Probability = 0.5
    mixup_off_epoch: Annotated[int, Field(ge=0)] | None = None

    def __post_init__(self):
        for name in ("random_resized_crop", "crop_ratio"):
            values = getattr(self, name)
            if values and values[0] > values[1]:
                raise ValueError(f"{name} must be (smallest, largest)")
        if self.random_resized_crop and self.random_resized_crop[1] > 1:
            raise ValueError("random_resized_crop must not exceed 1, the whole area")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Where examples come from and how they are batched.

    Attributes:
        name: name of a source, see `keras_qkformer.data.sources`: one of this package,
            `tfds/NAME`, or one of your own, `module:function` or registered by
            `register_source`.
        train: split to train on, such as `"train[:90%]"`.
        validation: split that chooses the best epoch; never the test split.
        test: split that is reported, used once, after training.
        batch_size: examples per training step, over all devices.
        max_shift: largest random shift of a training image, as a fraction of its size.
        max_rotation: largest random rotation of a training image, in degrees.
        max_zoom: largest random change of size of a training image, as a fraction.
        data_dir: folder of the source's data, or `None` for its default.
        sensor_size: (height, width) of recordings in pixels, or `None` for the default.
        frames_by: frames of equally many events (`"number"`) or of equal duration
            (`"time"`), or voxel grids, which split each event between the two nearest
            time steps (`"voxel"`); `None` for the default.
        window_us: duration in microseconds of the windows into which recordings are
            cut, or `None` for whole recordings.
        max_gap_us: longest time in microseconds from one event of a recording to the
            next; a longer one counts as damage. `None` for the default of
            `read_recording`, an hour.
        event_augmentation: augmentation of training recordings, or `None`.
        image_augmentation: augmentation of training images, or `None`.
        evaluation_crop: fraction of height and width that evaluation takes from the
            middle of an image, after resizing its shorter side to image size /
            fraction.
        mean: mean per channel of the values in [0, 1], or `None` for the source's.
        std: standard deviation per channel of the values in [0, 1], or `None` for the
            source's.
        strict: whether an image that can't be decoded is an error; otherwise it is left
            out and reported.
    """

    name: str
    train: str
    validation: str
    test: str
    batch_size: Annotated[int, Field(gt=0, le=1_000_000)]
    max_shift: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    max_zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    data_dir: str | None = None
    sensor_size: Annotated[tuple[_Positive, _Positive], _LIST] | None = None
    frames_by: Literal["number", "time", "voxel"] | None = None
    window_us: _Positive | None = None
    max_gap_us: Annotated[int, Field(gt=0, lt=1 << 63)] | None = None
    event_augmentation: EventAugmentation | None = None
    image_augmentation: ImageAugmentation | None = None
    evaluation_crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    mean: Annotated[tuple[float, ...], _LIST] | None = None
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], _LIST] | None = None
    strict: bool = False
