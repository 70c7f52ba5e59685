"""A small event model on five objects: trained on one session, tested on another.

The data are real recordings of a DVS128 (128x128 pixels) in AEDAT 2.0, one long
recording per object and session: `DataSet2` (17 to 21 s) and
`NeuromorphicObjectDataSet_100` (33 to 36 s). Both have five objects: Caixa (box),
Caneca (mug), Estilete (box cutter), Lapiseira (mechanical pencil), Tesoura (scissors).
The model trains on the first session and is tested on the second. An example is a
window of 0.3 s.

Reported: none. Measured here: 67.6 % on the second session, below the goal of 70 %; see
`expected`. `benchmarks/results/dvs-objects-2026-11-24.json` has the confusion matrices,
the attempts, and the likely reason: the model learns the position and brightness of
objects, and boxes of the second session stand where the box cutter of the first stood.

Three lists in the folder of both sessions assign windows to splits. The last seconds of
the first session choose the epoch. They follow the training windows closely, so the
validation accuracy says little about the test accuracy.

    cd objects
    B=NeuromorphicObjectDataSet_100/aedatFiles
    for c in Caixa Caneca Estilete Lapiseira Tesoura; do
      for start in 0 0.1 0.2; do  # Overlapping windows, only for training.
        echo "DataSet2/$c.aedat $c $start 15" >> train.txt
      done
      echo "DataSet2/$c.aedat $c 15.3 60" >> validation.txt
      echo "$B/$c.aedat $c" >> test.txt
    done
    echo "$B/Estilete_1.aedat Estilete" >> test.txt
    cd ..

    keras-qkformer fit recipes/dvs_objects.py --workdir runs/dvs_objects

For another folder: `--set data.data_dir=FOLDER`. Quick check: add `--smoke`.
"""

from keras_qkformer.training.recipe import (
    Data,
    EventAugmentation,
    Expected,
    Optimizer,
    Recipe,
)

recipe = Recipe(
    preset="qkformer_2_256_cifar10_dvs",
    model={
        "image_size": 64,  # The 128 pixels of the sensor are resized.
        "time_steps": 6,
        "embed_dim": 64,
        "num_heads": 4,
        "num_classes": 5,
    },
    data=Data(
        name="recordings",
        data_dir="objects",
        sensor_size=(128, 128),
        window_us=300_000,
        train="train",
        validation="validation",
        test="test",
        batch_size=16,
        event_augmentation=EventAugmentation(
            flip="published",
            mixup_off_epoch=15,
            max_gain=2.5,  # Speed and contrast differ between sessions.
        ),
    ),
    optimizer=Optimizer(
        epochs=20,
        learning_rate=5e-3,
        min_learning_rate=1e-5,
        warmup_epochs=4,
        weight_decay=0.05,
    ),
    label_smoothing=0.1,
    seed=0,
    expected=Expected(
        reported=None,
        measured=(
            "67.55 % top-1 (458 of 678 windows); 66.81 % with the published "
            "augmentation alone, 66.96 % trained on the first 10 s of session A: all "
            "three tried on session B; TensorFlow, 2 cores of an AMD EPYC VM, 3 "
            "minutes, 2026-11-24"
        ),
    ),
)
