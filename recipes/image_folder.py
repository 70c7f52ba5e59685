r"""Your own images, from any weights as the start: a folder or zip with classes.

Images are in `<split>/<class>/*`: `train` and `test`, a folder per class. A tenth of
`train` chooses the epoch. As many classes as there are folders get a new head; where
the start has another size of image, its weights fit all the same.

    keras-qkformer fit recipes/image_folder.py --workdir runs/mine \
        --set data.data_dir=FOLDER --set preset=weights/cifar10_small

`preset` is a preset folder, its address, or the name of a preset for a start from
nothing. A check of two steps: add `--smoke`. Then:

    keras-qkformer evaluate runs/mine
    keras-qkformer predict runs/mine photo.jpg --top 3
"""

from keras_qkformer.training.recipe import (
    Data,
    Expected,
    ImageAugmentation,
    Optimizer,
    Recipe,
)

recipe = Recipe(
    preset="weights/cifar10_small",
    data=Data(
        name="folder",
        data_dir="images",
        train="train[:90%]",
        validation="train[90%:]",  # Chooses the epoch; test is for the report alone.
        test="test",
        batch_size=32,
        image_augmentation=ImageAugmentation(policy="none", flip=True),
    ),
    optimizer=Optimizer(
        epochs=20,
        learning_rate=5e-4,
        min_learning_rate=1e-6,
        warmup_epochs=1,
        weight_decay=0.05,
        layer_decay=0.8,  # What the start has learnt changes less than the new head.
    ),
    label_smoothing=0.1,
    seed=0,
    expected=Expected(reported=None, measured=None),
)
