"""Class names and pixel statistics of the data sets that models are published for.

Presets and data sources both use them, and do not know each other. Class names are in
the order of the labels. Pixels are in [0, 1].
"""

import collections
from pathlib import Path

IMAGENET_PIXELS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CIFAR_PIXELS = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}
# The usual statistics for grey images: those of ImageNet's luminance.
GREY_PIXELS = {"mean": (0.449,), "std": (0.226,)}

CIFAR10_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
CIFAR100_NAMES = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge
    bus butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud
    cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox
    girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree
    pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
    road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel
    streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
    trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split()
)
DVS128_GESTURE_NAMES = (
    "hand_clapping",
    "right_hand_wave",
    "left_hand_wave",
    "right_arm_clockwise",
    "right_arm_counter_clockwise",
    "left_arm_clockwise",
    "left_arm_counter_clockwise",
    "arm_roll",
    "air_drums",
    "air_guitar",
    "other_gestures",
)
IMAGENET_FILE = Path(__file__).with_name("imagenet_names.txt")


def _imagenet_names():
    """First WordNet lemma of each class, plus its synset if two classes share it."""
    lines = IMAGENET_FILE.read_text("ascii").splitlines()
    pairs = [line.split(" ", 1) for line in lines if not line.startswith("#")]
    counts = collections.Counter(lemma for _, lemma in pairs)
    return tuple(
        lemma if counts[lemma] == 1 else f"{lemma} ({synset})"
        for synset, lemma in pairs
    )


IMAGENET_NAMES = _imagenet_names()
# Data -> what presets for it have in common beside their arguments.
PUBLISHED = {
    "imagenet": {"class_names": IMAGENET_NAMES, **IMAGENET_PIXELS},
    "cifar10": {"class_names": CIFAR10_NAMES, **CIFAR_PIXELS},
    "cifar100": {"class_names": CIFAR100_NAMES, **CIFAR_PIXELS},
    "cifar10_dvs": {"class_names": CIFAR10_NAMES},
    "dvs128_gesture": {"class_names": DVS128_GESTURE_NAMES},
}
# Data -> its name in descriptions.
TITLES = {
    "imagenet": "ImageNet-1k",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "cifar10_dvs": "CIFAR10-DVS",
    "dvs128_gesture": "DVS128 Gesture",
}
