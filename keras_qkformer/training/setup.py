"""The model of a recipe and the examples that it trains on."""

import contextlib

import keras

from keras_qkformer.data.examples import Examples
from keras_qkformer.models import SpikingClassifier
from keras_qkformer.training.losses import accuracy, make_loss
from keras_qkformer.training.optimizer import make_optimizer
from keras_qkformer.training.weight_average import WeightAverage


@contextlib.contextmanager
def precision_of(recipe):
    """Context in which models are made and loaded in the precision of a recipe.

    Args:
        recipe: a `Recipe`.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def prepare_training(recipe):
    """Make the model of a recipe and its examples.

    If the recipe does not set `num_classes`, the model gets the number of classes of
    the data.

    Args:
        recipe: a `Recipe`.

    Returns:
        `(model, examples)`: a `SpikingClassifier`, which trains on each time step if
        the recipe does, and `Examples`.

    Raises:
        ValueError: if a value of the recipe does not fit.
    """
    model = SpikingClassifier.from_preset(recipe.preset, **recipe.model)
    examples = examples_for(recipe, model.input_shape[1:])
    classes = len(examples.class_names)
    if classes < 2:
        raise ValueError(
            "A training must have at least two classes. "
            f"Received: {list(examples.class_names)} of {recipe.data.name!r}"
        )
    if model.num_classes != classes and "num_classes" not in recipe.model:
        model = SpikingClassifier.from_preset(
            recipe.preset, **recipe.model, num_classes=classes
        )
    if model.num_classes != classes:
        raise ValueError(
            f"The model must have the {classes} classes of {recipe.data.name!r}. "
            f"Received: num_classes={model.num_classes}"
        )
    model.trains_each_step = recipe.tet_regularizer is not None
    _ = examples.training_functions  # Raises now if an augmentation does not fit.
    return model, examples


def compile_model(model, recipe, steps, schedule=None):
    """Compile the model of a recipe.

    Args:
        model: a `SpikingClassifier`.
        recipe: a `Recipe`.
        steps: int. Batches per epoch.
        schedule: `LearningRateSchedule`, or `None` for that of the recipe.

    Returns:
        The `WeightAverage` of the recipe, or `None`.
    """
    settings = recipe.optimizer
    model.compile(
        optimizer=make_optimizer(settings, model, max(steps, 1), schedule),
        loss=make_loss(
            recipe.label_smoothing, model.num_classes, recipe.tet_regularizer
        ),
        weighted_metrics=[keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")],
    )
    # In float16 compile wraps it in a LossScaleOptimizer, which is not built yet.
    model.optimizer.build(model.trainable_variables)
    if settings.average_decay is None:
        return None
    return WeightAverage(model, settings.average_decay, settings.accumulation_steps)


def examples_for(recipe, input_shape):
    """Make the examples of a recipe for a model.

    Args:
        recipe: a `Recipe`.
        input_shape: tuple of int. Shape of one input of the model.

    Returns:
        `Examples`.

    Raises:
        ValueError: if a setting does not fit.
    """
    return Examples(
        recipe.data,
        input_shape,
        seed=recipe.seed,
        label_smoothing=recipe.label_smoothing,
        max_steps=recipe.max_steps,
    )
