"""The model of a recipe and the examples that it trains on."""

from keras_qkformer.data.examples import Examples
from keras_qkformer.models import SpikingClassifier


def prepare_training(recipe):
    """Make the model of a recipe and its examples.

    If the recipe does not set `num_classes`, the model gets the number of classes of
    the data.

    Args:
        recipe: a `Recipe`.

    Returns:
        `(model, examples)`: a `SpikingClassifier` and `Examples`.

    Raises:
        ValueError: if a value of the recipe does not fit.
    """
    model = SpikingClassifier.from_preset(recipe.preset, **recipe.model)
    examples = examples_for(recipe, model)
    classes = len(examples.class_names)
    if model.num_classes != classes and "num_classes" not in recipe.model:
        model = SpikingClassifier.from_preset(
            recipe.preset, **recipe.model, num_classes=classes
        )
    if model.num_classes != classes:
        raise ValueError(
            f"The model must have the {classes} classes of {recipe.data.name!r}. "
            f"Received: num_classes={model.num_classes}"
        )
    _ = examples.training_functions  # Raises now if an augmentation does not fit.
    return model, examples


def examples_for(recipe, model, preprocessing=None):
    """Make the examples of a recipe for a model.

    Args:
        recipe: a `Recipe`.
        model: a `SpikingClassifier`.
        preprocessing: `Preprocessing` of a trained model, or `None` for that of the
            recipe.

    Returns:
        `Examples`.

    Raises:
        ValueError: if a setting does not fit.
    """
    return Examples(
        recipe.data,
        model.input_shape[1:],
        seed=recipe.seed,
        label_smoothing=recipe.label_smoothing,
        max_steps=recipe.max_steps,
        preprocessing=preprocessing,
    )
