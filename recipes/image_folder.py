r"""Fine-tune any weights on your own images, in a folder or zip.

The images are in `<split>/<class>/*`: `train` and `test`, with a folder per class, or
in another layout of docs/data.md; docs/training.md says how to choose the values below.
The last 10 % of `train` choose the epoch. If the number of classes differs from that of
the weights, the model gets a new head. The weights fit images of any size.

    keras-qkformer data preview recipes/image_folder.py --set data.data_dir=FOLDER
    keras-qkformer fit recipes/image_folder.py --workdir runs/mine \
        --set data.data_dir=FOLDER

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
        image_augmentation=ImageAugmentation(
            random_resized_crop=(0.7, 1.0),
            crop_ratio=(0.9, 1.1),
            flip=False,  # A mirrored photo keeps its label, a mirrored digit does not.
        ),
    ),
    optimizer=Optimizer(
        epochs=8,
        learning_rate=4e-3,
        min_learning_rate=1e-5,
        warmup_epochs=1,
        weight_decay=0.05,
        layer_decay=0.9,  # Early layers change less than the new head.
    ),
    label_smoothing=0.1,
    seed=0,
    expected=Expected(
        reported=None,
        measured=(
            "98.4 % top-1 of 1,000 images of MNIST as PNG after training on 3,600 "
            "(305 s of CPU time), 98.6 % of 360 digits of scikit-learn as PNG (128 s), "
            "2026-11-30, TensorFlow 2.21, AMD EPYC VM; "
            "keras-qkformer fit recipes/image_folder.py --set data.data_dir=FOLDER"
        ),
    ),
)
