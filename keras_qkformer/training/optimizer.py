"""The optimizer of a recipe."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_qkformer")
class EpochCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that changes from epoch to epoch, as timm's cosine does.

    In epoch t, from 0, of N:

        warmup_learning_rate + t / warmup_epochs * (learning_rate
            - warmup_learning_rate)                                  t < warmup_epochs
        min_learning_rate + (learning_rate - min_learning_rate)
            * (1 + cos(pi t / N)) / 2                                otherwise, t < N
        min_learning_rate                                            t >= N

    The cosine counts the epochs of the warm-up too, so the rate falls a little where
    they end.

    Args:
        epochs: int > 0. N.
        steps_per_epoch: int > 0.
        learning_rate: float > 0. The highest point of the cosine.
        min_learning_rate: float >= 0.
        warmup_epochs: float >= 0.
        warmup_learning_rate: float >= 0.

    Reference:
        timm 1.0, `CosineLRScheduler` with `warmup_prefix=False`, in epochs.
    """

    def __init__(
        self,
        epochs,
        steps_per_epoch,
        learning_rate,
        min_learning_rate=0.0,
        warmup_epochs=0.0,
        warmup_learning_rate=0.0,
    ):
        super().__init__()
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.learning_rate = learning_rate
        self.min_learning_rate = min_learning_rate
        self.warmup_epochs = warmup_epochs
        self.warmup_learning_rate = warmup_learning_rate

    def __call__(self, step):
        epoch = ops.floor_divide(step, self.steps_per_epoch)  # Exact in whole numbers.
        epoch = ops.cast(epoch, "float32")
        turn = ops.minimum(epoch / self.epochs, 1.0)
        rate = self.min_learning_rate + 0.5 * (
            self.learning_rate - self.min_learning_rate
        ) * (1.0 + ops.cos(math.pi * turn))
        growth = self.learning_rate - self.warmup_learning_rate
        warmup = self.warmup_learning_rate + growth * epoch / (self.warmup_epochs or 1)
        return ops.where(epoch < self.warmup_epochs, warmup, rate)

    def get_config(self):
        return {
            "epochs": self.epochs,
            "steps_per_epoch": self.steps_per_epoch,
            "learning_rate": self.learning_rate,
            "min_learning_rate": self.min_learning_rate,
            "warmup_epochs": self.warmup_epochs,
            "warmup_learning_rate": self.warmup_learning_rate,
        }


def make_optimizer(settings, model, steps_per_epoch):
    """AdamW with the learning rate of a recipe.

    Args:
        settings: the recipe's `Optimizer`.
        model: a built Keras model.
        steps_per_epoch: int. Optimizer steps in one epoch.

    Returns:
        An optimizer that is built for the model. One-dimensional tensors (biases,
        BatchNorm) do not decay.
    """
    schedule = _schedule(settings, steps_per_epoch)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=settings.weight_decay)
    # By variable: names match differently on each backend.
    optimizer.exclude_from_weight_decay(
        var_list=[v for v in model.trainable_variables if len(v.shape) <= 1]
    )
    optimizer.build(model.trainable_variables)
    return optimizer


def _schedule(settings, steps_per_epoch):
    if settings.schedule == "epoch":
        return EpochCosine(
            settings.epochs,
            steps_per_epoch,
            settings.learning_rate,
            settings.min_learning_rate,
            settings.warmup_epochs,
            settings.warmup_learning_rate,
        )
    steps = settings.epochs * steps_per_epoch
    warmup_steps = min(round(settings.warmup_epochs * steps_per_epoch), steps - 1)
    first = settings.warmup_learning_rate if warmup_steps else settings.learning_rate
    # After its last step it stays where it is: that is the cool-down.
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=first,
        warmup_target=settings.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
        decay_steps=steps - warmup_steps,
        alpha=settings.min_learning_rate / settings.learning_rate,
    )
