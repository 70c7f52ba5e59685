"""The model of a recipe and the examples that it trains on."""

from keras_qkformer.data.examples import Examples
from keras_qkformer.models import SpikingClassifier


def prepare_training(recipe):
    """The model of a recipe, with weights from its seed, and its examples.

    Where the recipe does not say `num_classes`, the model gets as many as the data has.

    Returns:
        `(model, examples)`.

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
    _ = examples.training_functions  # Says at once if something does not fit.
    return model, examples


def examples_for(recipe, model, preprocessing=None):
    """The `Examples` of a recipe for a model, perhaps with its own preprocessing."""
    return Examples(
        recipe.data,
        model.input_shape[1:],
        seed=recipe.seed,
        label_smoothing=recipe.label_smoothing,
        max_steps=recipe.max_steps,
        preprocessing=preprocessing,
    )
