"""Where examples come from and how they are changed: declared once."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid")
_Positive = Annotated[int, Field(gt=0)]
_Probability = Annotated[float, Field(ge=0, le=1)]
_Range = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EventAugmentation:
    """Augmentation of event frames, see `keras_qkformer.data.recordings.augment`.

    It smooths labels by the recipe's `label_smoothing`, once: before mixup.

    Attributes:
        flip: `"gestures"` for DVS128 Gesture, whose labels it mirrors; `"published"`,
            which keeps labels; `"none"`.
        operations: whether one of the six operations is drawn for every recording.
        mixup_alpha: the share of the first partner is Beta(alpha, alpha).
        mixup_probability: share of the batches that are mixed; 0 for no mixup.
        mixup_off_epoch: first epoch, from 0, without mixup, or `None`.
        max_gain: largest factor by which the counts of a recording are multiplied or
            divided, at random.
    """

    flip: Literal["gestures", "published", "none"]
    operations: bool = True
    mixup_alpha: Annotated[float, Field(gt=0)] = 0.5
    mixup_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    mixup_off_epoch: Annotated[int, Field(ge=0)] | None = None
    max_gain: Annotated[float, Field(ge=1)] = 1.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImageAugmentation:
    """Augmentation of training images, see `keras_qkformer.data.images.augment`.

    In this order: crop, flip, policy, mixup or cutmix of the batch, normalization,
    erasing. It smooths labels by the recipe's `label_smoothing`, once: before they are
    mixed.

    Attributes:
        policy: `"randaugment"`: timm's, `rand-m{magnitude}-n{num_ops}-
            mstd{magnitude_std}-inc1`. `"keras_cv"`: RandAugment, MixUp and CutMix of
            keras_cv. `"none"`: no operation of colour or geometry.
        num_ops: operations per image that a policy draws.
        magnitude: of the operations, from 0 to 10.
        magnitude_std: of a normal distribution around it, drawn per operation.
        random_resized_crop: smallest and largest share of the area that is cut out, or
            `None` for what evaluation takes, see `Data.evaluation_crop`.
        crop_ratio: smallest and largest width/height of what is cut out.
        flip: whether every second image is mirrored left to right.
        interpolation: of a change of size, also in evaluation, and of `"randaugment"`.
        erase_probability: how often a rectangle of an image is erased.
        erase_mode: it becomes normal noise per pixel (`"pixel"`), a normal colour
            (`"rand"`) or the mean colour (`"const"`).
        mixup_alpha: the share of the first partner is Beta(alpha, alpha); 0 for none.
        cutmix_alpha: so is the share that is not cut out; 0 for none.
        mixup_probability: how often a batch is mixed.
        mixup_switch_probability: how often by cutmix, where there are both.
        mixup_off_epoch: first epoch, from 0, without either, or `None`.
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
        name: a source of `keras_qkformer.data.pipeline`.
        train: split to train on, such as `"train[:90%]"`.
        validation: split that chooses the best epoch; never the test split.
        test: split that is reported, used once, after training.
        batch_size: examples per step, all devices together.
        max_shift: largest random shift of a training image, as a share of its size.
        max_rotation: largest random rotation of a training image, in degrees.
        max_zoom: largest random change of size of a training image, as a share.
        data_dir: folder of the source's data, or `None` for its default.
        sensor_size: (height, width) of recordings in pixels, or `None` for the default.
        frames_by: frames of equally many events (`"number"`) or of equal length, or
            `None` for the default.
        window_us: length in microseconds into which recordings are cut, or `None`.
        event_augmentation: of the frames of training recordings, or `None`.
        image_augmentation: of training images, or `None`.
        evaluation_crop: share of the height and width of an image that evaluation
            takes, out of its middle: the shorter side becomes image size / share.
        mean: of the values in [0, 1], one per channel, or `None` for the source's.
        std: of the values in [0, 1], one per channel, or `None` for the source's.
        strict: whether an image that can't be decoded is an error; else it is left out
            and reported.
    """

    name: str
    train: str
    validation: str
    test: str
    batch_size: Annotated[int, Field(gt=0)]
    max_shift: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    max_zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    data_dir: str | None = None
    sensor_size: tuple[_Positive, _Positive] | None = None
    frames_by: Literal["number", "time"] | None = None
    window_us: _Positive | None = None
    event_augmentation: EventAugmentation | None = None
    image_augmentation: ImageAugmentation | None = None
    evaluation_crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    strict: bool = False
