"""The names of the classes of the published models, in the order of their labels."""

from pathlib import Path

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge
    bus butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud
    cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox
    girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree
    pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
    road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel
    streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
    trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
_GESTURES = """
    hand_clapping right_hand_wave left_hand_wave right_arm_clockwise
    right_arm_counter_clockwise left_arm_clockwise left_arm_counter_clockwise arm_roll
    air_drums air_guitar other_gestures
"""
_OF_PRESETS = {
    "qkformer_4_384_cifar10": _CIFAR10,
    "qkformer_4_384_cifar100": _CIFAR100,
    "qkformer_2_256_dvs128_gesture": _GESTURES,
    "qkformer_2_256_cifar10_dvs": _CIFAR10,
}
_IMAGENET = Path(__file__).with_name("imagenet_names.txt")


def class_names(preset):
    """Names of the classes of a preset.

    Args:
        preset: str. Name of a published preset.

    Returns:
        List of str. Of ImageNet they are the first lemmas in WordNet, with the synset
        behind the two that name two classes each.

    Example:
    >>> names = class_names("qkformer_10_384_imagenet")
    >>> len(names), names[1], names[134]
    (1000, 'goldfish', 'crane (n02012849)')
    """
    if preset in _OF_PRESETS:
        return _OF_PRESETS[preset].split()
    lines = _IMAGENET.read_text("ascii").splitlines()
    pairs = [line.split(" ", 1) for line in lines if not line.startswith("#")]
    lemmas = [lemma for _, lemma in pairs]
    return [
        lemma if lemmas.count(lemma) == 1 else f"{lemma} ({synset})"
        for synset, lemma in pairs
    ]
