"""Spikingformer-2-256 on CIFAR10-DVS and DVS128 Gesture, with the authors' settings.

They are those of `spikformer_events.py`, for Gesture with 192 epochs. Reported:
81.3 % top-1 on CIFAR10-DVS with 16 time steps, 79.9 % with 10, README of the authors'
code; Zhou et al., 2023, https://arxiv.org/abs/2304.11954. Their log has 34.5, 61.5 and
77.0 % after epochs 1, 10 and 50. Measured here: not yet run.

    keras-qkformer data prepare cifar10_dvs --manual-dir FOLDER
    keras-qkformer fit recipes/spikingformer_events.py --workdir runs/spikingformer

Gesture: `recipes/spikingformer_events.py:gesture`, after `data prepare dvs128_gesture`.
With the downsampling of CML (https://arxiv.org/abs/2305.05954), assumed to have the
same settings: `:cml` and `:cml_gesture`. Quick check: add `--smoke`.

Differences from the source: as in `spikformer_events.py`; a flipped gesture gets
the label of its mirror image, see `dvs128_gesture.py`.
"""

from pathlib import Path

from keras_qkformer.training.recipe import load_recipe, override

_README = "expected.reported={} % top-1, README of the authors' code{}"
recipe = override(
    load_recipe(Path(__file__).with_name("spikformer_events.py")),
    ["preset=spikingformer_2_256_cifar10_dvs", _README.format("81.3", "")],
)

_GESTURE = [
    "data.name=dvs128_gesture",
    "data.train=train[:90%]",
    "data.validation=train[90%:]",
    "data.event_augmentation.flip=gestures",
    "optimizer.epochs=192",
]
variants = {
    "gesture": [
        "preset=spikingformer_2_256_dvs128_gesture",
        *_GESTURE,
        _README.format("98.3", ""),
    ],
    "cml": [
        "preset=spikingformer_cml_2_256_cifar10_dvs",
        _README.format("81.4", " of CML"),
    ],
    "cml_gesture": [
        "preset=spikingformer_cml_2_256_dvs128_gesture",
        *_GESTURE,
        _README.format("98.6", " of CML"),
    ],
}
