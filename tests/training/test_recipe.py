"""Recipes: what they accept, and every recipe file for two steps."""

import dataclasses
import functools
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from fake_recordings import make_cifar10_dvs, make_classes, make_gesture

from keras_qkformer.data.recordings.moving_digits import write_moving_digits
from keras_qkformer.data.recordings.prepare import DATA_SETS, builder_class, prepare
from keras_qkformer.data.sources import SOURCES
from keras_qkformer.events.aedat31 import read_aedat31
from keras_qkformer.events.nmnist import write_nmnist
from keras_qkformer.models import (
    PRESETS,
    QKFormerClassifier,
    SpikingClassifier,
    count_parameters,
)
from keras_qkformer.models.preset import FAMILIES
from keras_qkformer.presets.arguments import parameters_of
from keras_qkformer.training.fit import fit
from keras_qkformer.training.recipe import (
    Data,
    EventAugmentation,
    Optimizer,
    Recipe,
    from_dict,
    load_recipe,
    load_variants,
    override,
    recipe_name,
    smoke,
    to_dict,
)
from keras_qkformer.training.recipe_table import recipe_table
from keras_qkformer.training.setup import prepare_training

RECIPES = sorted(Path(__file__).parents[2].glob("recipes/*.py"))
NAMES = [
    f"{path.stem}{name}"
    for path in RECIPES
    for name in ("", *(f":{variant}" for variant in load_variants(path)))
]


def recipe_of(name):
    """The recipe or variant of a name in `NAMES`."""
    stem, colon, variant = name.partition(":")
    return load_recipe(RECIPES[0].with_name(f"{stem}.py{colon}{variant}"))


def small_digits(folder):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    write_moving_digits(folder, most=40)
    return [f"data.data_dir={folder}", "data.batch_size=4", *SMALL_MODEL]


def small_nmnist(folder):
    make_classes(folder, "0123456789", count=5, sensor=34)
    for number, path in enumerate(sorted(folder.glob("*/*.aedat"))):
        write_nmnist(folder / f"{number}.bs2", read_aedat31(path))
        name = "test100" if number % 5 == 4 else "train1K"
        with (folder / f"{name}.txt").open("a") as file:
            file.write(f"{number}\t{path.parent.name}\n")
    return [f"data.data_dir={folder}", "data.batch_size=4", *SMALL_MODEL]


def small_objects(folder):
    """Lists like those of the recipe's header, for recordings of 0.1 s."""
    names = ("Caixa", "Caneca", "Estilete", "Lapiseira", "Tesoura")
    make_classes(folder, names, count=1, sensor=128)
    for split, span in (("train", "0 0.06"), ("validation", "0.06 9"), ("test", "")):
        lines = [f"{name}/0.aedat {name} {span}" for name in names]
        (folder / f"{split}.txt").write_text("\n".join(lines))
    options = ["data.window_us=25000", "data.batch_size=4"]
    return [f"data.data_dir={folder}", *options, *SMALL_MODEL]


def small_gesture(folder):
    return small_prepared("dvs128_gesture", folder, make_gesture)


def small_cifar10_dvs(folder):
    names = builder_class("cifar10_dvs").CLASS_NAMES
    make = functools.partial(make_cifar10_dvs, class_names=names, zipped=False)
    return small_prepared("cifar10_dvs", folder, make)


def small_prepared(name, folder, make):
    make(folder)
    prepare(name, folder, data_dir=folder, configs=["events"], verify_files=False)
    return [
        f"data.data_dir={folder}",
        "data.train=train[:40]",
        "data.validation=train[40:60]",
        "data.test=test[:10]",
        *SMALL_MODEL,
        "model.num_heads=2",
    ]


def small_images(folder, *options):
    """Eight files per class of two, in the folders that the source wants."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for number in range(8):
                pixels = rng.integers(0, 256, (40, 50, 3), "uint8")
                file = folder / split / name / f"{number}.png"
                file.write_bytes(tf.io.encode_png(pixels).numpy())
    return [
        "data.name=folder",
        f"data.data_dir={folder}",
        "data.train=train[:8]",
        "data.validation=train[8:12]",
        "data.test=test[:6]",
        "data.batch_size=4",
        *options,
    ]


def small_cifar(folder):
    sizes = (*SMALL_MODEL, "model.num_heads=2")
    return small_images(folder, *sizes, "model.depths=[1, 1, 1]")


def small_imagenet(folder):
    sizes = (*SMALL_MODEL, "model.image_size=32", "model.num_heads=2")
    return small_images(folder, *sizes, "model.depths=[1, 1, 1]")


def small_tuning(folder):
    """A model of other classes and of another size, as the start."""
    model = QKFormerClassifier.from_preset(
        "qkformer_10_768_imagenet",
        image_size=16,
        embed_dim=16,
        num_heads=2,
        depths=(1, 1, 1),
        time_steps=2,
    )
    model.save_to_preset(folder / "start")
    images = small_images(folder / "images", "model.image_size=32")
    return [f"preset={folder / 'start'}", *images]


def small_chain_images(folder):
    sizes = ("model.image_size=32", *SMALL_MODEL[1:])
    return small_images(folder, *sizes, "model.depth=1", "model.num_heads=2")


def small_chain_events(folder):
    return [*small_cifar10_dvs(folder), "model.depth=1"]


def small_sew_images(folder):
    sizes = ("model.widths=[8, 8]", "model.depths=[1, 1]", "model.stem_width=8")
    return small_images(folder, "model.image_size=16", "model.time_steps=2", *sizes)


def small_sew_events(folder):
    kept = [c for c in small_cifar10_dvs(folder) if "dim" not in c and "heads" not in c]
    return [*kept, "model.widths=[8, 8]", "model.depths=[1, 1]"]


SMALL_MODEL = ("model.image_size=16", "model.embed_dim=16", "model.time_steps=2")
SMALL = {
    "digits": lambda folder: ["model.embed_dim=16", *SMALL_MODEL[2:]],
    "ablations": small_cifar,
    "cifar10": small_cifar,
    "cifar10_small": small_imagenet,
    "cifar100": small_cifar,
    "image_folder": small_tuning,
    "imagenet_10_384": small_imagenet,
    "imagenet_10_512": small_imagenet,
    "imagenet_10_768": small_imagenet,
    "imagenet_10_768_288": small_tuning,
    "imagenet_10_768_384": small_tuning,
    "cifar10_dvs": small_cifar10_dvs,
    "dvs128_gesture": small_gesture,
    "dvs_digits": small_digits,
    "dvs_objects": small_objects,
    "nmnist": small_nmnist,
    "spikformer_cifar10": small_chain_images,
    "spikformer_imagenet": small_chain_images,
    "spikformer_events": small_chain_events,
    "spike_driven_transformer_cifar10": small_chain_images,
    "spike_driven_transformer_imagenet": small_chain_images,
    "spike_driven_transformer_events": small_chain_events,
    "spikingformer_cifar10": small_chain_images,
    "spikingformer_imagenet": small_chain_images,
    "spikingformer_events": small_chain_events,
    "max_former_cifar10": small_cifar,
    "max_former_imagenet": small_imagenet,
    "max_former_events": small_cifar10_dvs,
    "sew_resnet_imagenet": small_sew_images,
    "sew_resnet_events": small_sew_events,
}
"""By recipe: makes its data in miniature, gives overrides for that and a small model.

All else, such as how examples are augmented and learnt, is that of the recipe.
"""


def make_recipe():
    return Recipe(
        preset="qkformer_tiny",
        data=Data(name="digits", train="a", validation="b", test="c", batch_size=8),
        optimizer=Optimizer(epochs=30, learning_rate=1e-3),
    )


def test_overrides_reach_every_depth():
    recipe = override(
        make_recipe(),
        [
            "seed=5",
            "optimizer.epochs=9",
            "data.train=train[:50%]",
            "model.tau=3.5",
            "model.depths=[1, 2]",
        ],
    )
    assert recipe.seed == 5
    assert recipe.optimizer.epochs == 9
    assert recipe.data.train == "train[:50%]"
    assert recipe.model == {"tau": 3.5, "depths": [1, 2]}
    assert recipe.optimizer.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("optimizer.epoch=3", "optimizer.epoch: Unexpected keyword argument"),
        ("optimiser.epochs=3", "An override must be field=value"),
        ("seed", "An override must be field=value"),
        ("optimizer.epochs=0", "greater than 0. Received: 0"),
        ("optimizer.epochs=many", "valid integer.*Received: 'many'"),
        ("precision=float8", "'float32', 'mixed_bfloat16' or 'mixed_float16'"),
        ("data.max_zoom=1", "less than 1. Received: 1"),
        ("optimizer.schedule=linear", "'step' or 'epoch'.*Received: 'linear'"),
        ("data.event_augmentation.flip=none", "event_augmentation is null here: set"),
        ("data.event_augmentation={}", "flip: Field required"),
        (
            'data.event_augmentation={"flip": "vertical"}',
            "'gestures', 'published' or 'none'",
        ),
        (
            'data.event_augmentation={"flip": "none", "mixup_probability": 2}',
            "mixup_probability: .*less than or equal to 1. Received: 2",
        ),
    ],
)
def test_wrong_override_says_the_rule_and_the_value(item, message):
    with pytest.raises(ValueError, match=message):
        override(make_recipe(), [item])


def test_unknown_field_fails_when_the_recipe_is_made():
    with pytest.raises(ValueError, match="epoch"):
        Optimizer(epoch=3, learning_rate=1e-3)


def test_recipe_cannot_be_changed():
    with pytest.raises(AttributeError):
        make_recipe().seed = 3


def test_dictionary_and_back_is_the_same_recipe():
    recipe = make_recipe()
    assert from_dict(to_dict(recipe)) == recipe
    events = override(
        recipe,
        [
            'data.event_augmentation={"flip": "none"}',
            "data.event_augmentation.mixup_off_epoch=75",
        ],
    )
    assert events.data.event_augmentation == EventAugmentation(
        flip="none", mixup_off_epoch=75
    )
    assert from_dict(to_dict(events)) == events


def test_smoke_shrinks_only_the_length():
    small = smoke(override(make_recipe(), ["optimizer.cooldown_epochs=10"]))
    assert (small.optimizer.epochs, small.max_steps) == (2, 2)
    assert small.optimizer.cooldown_epochs == 0
    assert small.data == make_recipe().data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must define `recipe`"),
        ("recipe = 3", "must define `recipe`"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("recipe = (", "SyntaxError"),
        (
            "from keras_qkformer.training.recipe import Optimizer\n"
            "recipe = Optimizer(epochs=-1, learning_rate=1)",
            "epochs: Input should be greater than 0",
        ),
    ],
)
def test_broken_recipe_file_is_named_in_the_error(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"(?s)broken.py.*{message}|{message}"):
        load_recipe(path)


def test_missing_recipe_file_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"must be a Python file\. .*none\.py"):
        load_recipe(tmp_path / "none.py")


def small_recipe(name, folder):
    """A recipe or variant in smoke mode, with a small model on data made here."""
    stem, colon, variant = name.partition(":")
    changes = SMALL.get(stem, lambda folder: [])(folder)
    if variant:  # Once more what it changes, over what makes the model small.
        path = RECIPES[0].with_name(f"{stem}.py")
        changes += load_variants(path)[variant]
    return smoke(
        load_recipe(RECIPES[0].with_name(f"{stem}.py{colon}{variant}"), changes)
    )


@pytest.mark.backend_independent
def test_every_recipe_names_a_preset_with_its_arguments_and_a_source():
    for name in NAMES:
        recipe = recipe_of(name)
        if not recipe.preset.startswith(("runs/", "weights/")):
            backbone = FAMILIES[PRESETS[recipe.preset].family].backbone
            known = {*parameters_of(backbone), "num_classes", "dropout"}
            assert recipe.model.keys() <= known, name
        assert recipe.data.name in SOURCES, name


def changes_the_model(name):
    """Whether a recipe is a variant of another model than its recipe's."""
    stem, _, variant = name.partition(":")
    # The comparison's models have a test of their own.
    return variant and stem != "comparison" and recipe_of(name).model


@pytest.mark.parametrize("name", [*filter(changes_the_model, NAMES)])
def test_every_variant_of_a_recipe_makes_its_model(name, tmp_path):
    """Training it has tests of its own: of the layers, and of the recipe it varies."""
    recipe = small_recipe(name, tmp_path / "data")
    model = SpikingClassifier.from_preset(recipe.preset, **recipe.model)
    kept = model.backbone.get_config()
    for key, value in recipe.model.items():
        if key in kept and key not in ("image_size", "num_heads", "attention"):
            assert kept[key] == value


# Recipes whose miniatures differ in numbers alone.
KINDS = (
    ("imagenet_10_384", "imagenet_10_512", "imagenet_10_768"),
    ("imagenet_10_768_288", "imagenet_10_768_384"),
    ("cifar10", "cifar100"),
)
# Of the other families' recipes, those of another optimizer or loss train: how the rest
# reads and augments data is that of these and of QKFormer's.
RELATIVES = ("max_former", "sew_resnet", "spike_driven", "spikformer", "spikingformer")
TRAINED = (
    "spike_driven_transformer_imagenet",
    "spike_driven_transformer_events",
    "sew_resnet_imagenet",
)
# The others train on PyTorch, where nothing must be compiled for them first.
COMPILED = {
    "imagenet_10_384": "tensorflow",
    "dvs_digits": "tensorflow",
    "imagenet_10_512": "jax",
    "digits": "jax",
}
NUMBERS = {
    "": ("preset", "model", "expected"),
    "data": ("name", "batch_size"),
    "optimizer": ("learning_rate", "accumulation_steps"),
}


@pytest.mark.backend_independent
@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_recipes_of_a_kind_differ_in_numbers_alone(kind):
    def without_numbers(name):
        recipe = to_dict(load_recipe(RECIPES[0].with_name(f"{name}.py")))
        for part, fields in NUMBERS.items():
            for field in fields:
                del (recipe[part] if part else recipe)[field]
        return recipe

    first, *others = map(without_numbers, kind)
    assert all(other == first for other in others)


def trained_here():
    """Names of the recipes that train on this backend: each trains on one.

    Other tests train images and events, with and without augmentation, on all of them.
    """
    # The ablations are the recipe of CIFAR-100, of which another test makes sure; the
    # comparison is a model of CIFAR-10 on the digits.
    left_out = {"ablations", "comparison", *relatives()} - {*TRAINED}
    plain = [name for name in NAMES if ":" not in name and name not in left_out]
    backend = keras.backend.backend()
    return [name for name in plain if COMPILED.get(name, "torch") == backend]


def relatives():
    """Names of the recipes of the families beside QKFormer, without variants."""
    return [n for n in NAMES if n.startswith(RELATIVES) and ":" not in n]


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", [n for n in relatives() if n not in TRAINED])
def test_recipe_of_a_relative_makes_its_model_and_examples(name, tmp_path):
    recipe = small_recipe(name, tmp_path / "data")
    model, examples = prepare_training(recipe)
    assert model.num_classes == len(examples.class_names)
    assert examples.steps > 0


@pytest.mark.parametrize("name", trained_here())
def test_every_recipe_trains_for_two_steps(name, tmp_path):
    recipe = small_recipe(name, tmp_path / "data")
    results = fit(recipe, tmp_path / "run", verbose=0)
    assert len(results["history"]["loss"]) == 2
    assert results["test"]["examples"] <= 2 * recipe.data.batch_size
    metadata = json.loads((tmp_path / "run" / "best" / "metadata.json").read_text())
    size = [128, 128] if recipe.data.name in DATA_SETS else None
    assert metadata.get("sensor_size") == size


VARIANTS = """
from keras_qkformer.training.recipe import Data, Optimizer, Recipe

data = Data(name="digits", train="a", validation="b", test="c", batch_size=8)
optimizer = Optimizer(epochs=3, learning_rate=1e-3)
recipe = Recipe(preset="qkformer_tiny", data=data, optimizer=optimizer)
variants = {"t1": ["model.time_steps=1", "seed=4"], "wrong": ["sed=4"]}
"""


def test_variant_of_a_recipe_is_the_recipe_with_its_overrides(tmp_path):
    path = tmp_path / "family.py"
    path.write_text(VARIANTS)
    variant = load_recipe(f"{path}:t1", ["seed=5"])
    assert variant == override(load_recipe(path), ["model.time_steps=1", "seed=5"])
    assert list(load_variants(path)) == ["t1", "wrong"]
    assert recipe_name(f"{path}:t1") == "family_t1"
    with pytest.raises(ValueError, match=r"one of \['t1', 'wrong'\]. Received: 't2'"):
        load_recipe(f"{path}:t2")
    with pytest.raises(ValueError, match="sed: Unexpected keyword"):
        load_recipe(f"{path}:wrong")


@pytest.mark.backend_independent
def test_table_in_the_folder_of_recipes_is_that_of_the_files():
    folder = RECIPES[0].parent
    # After a change: keras-qkformer recipes > recipes/README.md
    assert (folder / "README.md").read_text() == recipe_table(folder)


@pytest.mark.backend_independent
def test_ablations_differ_from_their_recipe_by_one_value():
    path = RECIPES[0].with_name("ablations.py")
    plain = load_recipe(path.with_name("cifar100.py"))
    assert load_recipe(path) == plain
    assert len(load_variants(path)) == 12
    for name in load_variants(path):
        variant = load_recipe(f"{path}:{name}")
        assert len(variant.model) == 1
        assert (
            dataclasses.replace(variant, model=plain.model, expected=plain.expected)
            == plain
        )


@pytest.mark.backend_independent
@pytest.mark.parametrize("data", ["digits", "nmnist", "cifar10"])
def test_families_are_compared_under_the_same_settings(data):
    path = RECIPES[0].with_name("comparison.py")
    names = [name for name in load_variants(path) if name.endswith(f"_{data}")]
    first, *others = recipes = [load_recipe(f"{path}:{name}") for name in names]
    families = [PRESETS[recipe.preset].family for recipe in recipes]
    ours = [  # Without those that other tests register.
        name
        for name, family in FAMILIES.items()
        if family.backbone.__module__.startswith("keras_qkformer.")
    ]
    assert sorted(families) == sorted(ours)
    for other in others:
        own = {"preset": first.preset, "model": first.model}
        assert dataclasses.replace(other, **own, expected=first.expected) == first
    for recipe in recipes if data == "nmnist" else ():
        model = SpikingClassifier.from_preset(recipe.preset, **recipe.model)
        assert 0.45e6 < count_parameters(model) < 0.55e6
        *_, features = model.backbone.output.values()
        assert features.shape[:4] == (None, 4, 4, 4)


def test_any_number_of_unknown_fields_is_told_in_few_words():
    many = {f"field_{number}": 1 for number in range(1000)}
    with pytest.raises(ValueError, match="and 995 more") as caught:
        from_dict({**to_dict(make_recipe()), **many})
    assert len(str(caught.value)) < 1500
