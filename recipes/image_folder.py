r"""Fine-tune any weights on your own images, in a folder or zip.

The images are in `<split>/<class>/*`: `train` and `test`, with a folder per class. The
last 10 % of `train` choose the epoch. If the number of classes differs from that of the
weights, the model gets a new head. The weights fit images of any size.

    keras-qkformer fit recipes/image_folder.py --workdir runs/mine \
        --set data.data_dir=FOLDER --set preset=weights/cifar10_small

`preset` is a preset folder, the address of one, or the name of a preset to train from
scratch. Quick check: add `--smoke`. Then:

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
        validation="train[90%:]",  # Chooses the epoch; test is used once, at the end.
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
        layer_decay=0.8,  # Early layers change less than the new head.
    ),
    label_smoothing=0.1,
    seed=0,
    expected=Expected(reported=None, measured=None),
)
