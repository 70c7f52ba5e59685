"""The optimizer of a recipe."""

import keras


def make_optimizer(settings, model, steps_per_epoch):
    """AdamW with linear warm-up and cosine decay.

    Args:
        settings: the recipe's `Optimizer`.
        model: a built Keras model.
        steps_per_epoch: int. Optimizer steps in one epoch.

    Returns:
        An optimizer that is built for the model. One-dimensional tensors (biases,
        BatchNorm) do not decay.
    """
    steps = settings.epochs * steps_per_epoch
    warmup_steps = min(round(settings.warmup_epochs * steps_per_epoch), steps - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else settings.learning_rate,
        warmup_target=settings.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
        decay_steps=steps - warmup_steps,
        alpha=settings.min_learning_rate / settings.learning_rate,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=settings.weight_decay)
    # By variable: names match differently on each backend.
    optimizer.exclude_from_weight_decay(
        var_list=[v for v in model.trainable_variables if len(v.shape) <= 1]
    )
    optimizer.build(model.trainable_variables)
    return optimizer
