"""Learning rate schedules: a warm-up, then a cosine; and a sweep of all rates."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_qkformer")
class EpochCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that changes from epoch to epoch, as timm's cosine does.

    In epoch t of N, from 0:

        warmup_learning_rate + t / warmup_epochs * (learning_rate
            - warmup_learning_rate)                                  t < warmup_epochs
        min_learning_rate + (learning_rate - min_learning_rate)
            * (1 + cos(pi t / N)) / 2                                otherwise, t < N
        min_learning_rate                                            t >= N

    The cosine counts the epochs of the warm-up too, so the rate drops a little where
    the warm-up ends.

    Args:
        epochs: int > 0. N.
        steps_per_epoch: int > 0. Batches per epoch.
        learning_rate: float > 0. Highest rate of the cosine.
        min_learning_rate: float >= 0. Rate at the end of the cosine.
        warmup_epochs: float >= 0. Length of the warm-up, in epochs.
        warmup_learning_rate: float >= 0. Rate at the start of the warm-up.

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
        phase = np.arange(epochs + 1) / epochs
        self._rates = _rates(
            phase, learning_rate, min_learning_rate, warmup_epochs, warmup_learning_rate
        )

    def __call__(self, step):
        epoch = ops.floor_divide(step, self.steps_per_epoch)
        return ops.take(self._rates, ops.minimum(epoch, self.epochs))

    def get_config(self):
        return {
            "epochs": self.epochs,
            "steps_per_epoch": self.steps_per_epoch,
            "learning_rate": self.learning_rate,
            "min_learning_rate": self.min_learning_rate,
            "warmup_epochs": self.warmup_epochs,
            "warmup_learning_rate": self.warmup_learning_rate,
        }


@keras.saving.register_keras_serializable(package="keras_qkformer")
class StepCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that changes with every step: linear warm-up, then a cosine.

    In step t of N, from 0, with W steps of warm-up:

        warmup_learning_rate + t / W * (learning_rate - warmup_learning_rate)   t < W
        min_learning_rate + (learning_rate - min_learning_rate)
            * (1 + cos(pi (t - W) / (N - W))) / 2                   otherwise, t < N
        min_learning_rate                                                       t >= N

    Args:
        steps: int > 0. N.
        learning_rate: float > 0. Highest rate, where the cosine starts.
        min_learning_rate: float >= 0. Rate at the end of the cosine.
        warmup_steps: int in [0, `steps`). W.
        warmup_learning_rate: float >= 0. Rate at the start of the warm-up.

    Reference:
        timm 1.0, `CosineLRScheduler` with `warmup_prefix=True`, in updates.
    """

    def __init__(
        self,
        steps,
        learning_rate,
        min_learning_rate=0.0,
        warmup_steps=0,
        warmup_learning_rate=0.0,
    ):
        super().__init__()
        self.steps = steps
        self.learning_rate = learning_rate
        self.min_learning_rate = min_learning_rate
        self.warmup_steps = warmup_steps
        self.warmup_learning_rate = warmup_learning_rate
        phase = (np.arange(steps + 1) - warmup_steps) / (steps - warmup_steps)
        self._rates = _rates(
            phase, learning_rate, min_learning_rate, warmup_steps, warmup_learning_rate
        )

    def __call__(self, step):
        return ops.take(self._rates, ops.minimum(step, self.steps))

    def get_config(self):
        return {
            "steps": self.steps,
            "learning_rate": self.learning_rate,
            "min_learning_rate": self.min_learning_rate,
            "warmup_steps": self.warmup_steps,
            "warmup_learning_rate": self.warmup_learning_rate,
        }


@keras.saving.register_keras_serializable(package="keras_qkformer")
class Sweep(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that grows by the same factor in every step, to look for a rate.

    In step t of N, from 0: `lowest * (highest / lowest) ** (t / (N - 1))`.

    Args:
        steps: int > 1. N.
        lowest: float > 0. Rate of the first step.
        highest: float > 0. Rate of the last step, and of any after it.
    """

    def __init__(self, steps, lowest, highest):
        super().__init__()
        self.steps = steps
        self.lowest = lowest
        self.highest = highest
        self.rates = np.geomspace(lowest, highest, steps).astype("float32")

    def __call__(self, step):
        return ops.take(self.rates, ops.minimum(step, self.steps - 1))

    def get_config(self):
        return {"steps": self.steps, "lowest": self.lowest, "highest": self.highest}


def _rates(phase, highest, lowest, warmup, first):
    """Rates that grow linearly from `first` until `warmup`, then follow half a cosine.

    `phase` is the position of each rate on the cosine, from 0 to 1.
    """
    # Computed once, in float64: in float32 the 7th digit of a rate would be wrong.
    t = np.arange(len(phase))
    fall = lowest + (highest - lowest) * (1 + np.cos(np.pi * phase)) / 2
    growth = (highest - first) / (warmup or 1)
    return np.where(t < warmup, first + growth * t, fall).astype("float32")


@keras.saving.register_keras_serializable(package="keras_qkformer")
class InOptimizerSteps(keras.optimizers.schedules.LearningRateSchedule):
    """Converts the number of a batch, with which Keras calls it, to optimizer steps.

    Args:
        schedule: a `LearningRateSchedule` of optimizer steps.
        accumulation_steps: int > 0. Batches per optimizer step.
    """

    def __init__(self, schedule, accumulation_steps):
        super().__init__()
        self.schedule = schedule
        self.accumulation_steps = accumulation_steps

    def __call__(self, step):
        return self.schedule(ops.floor_divide(step, self.accumulation_steps))

    def get_config(self):
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "accumulation_steps": self.accumulation_steps,
        }

    @classmethod
    def from_config(cls, config):
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, config["accumulation_steps"])


def make_schedule(settings, steps_per_epoch):
    """Make the learning rate schedule of a recipe.

    Args:
        settings: the recipe's `Optimizer`.
        steps_per_epoch: int > 0. Batches per epoch.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule` of the number of the batch.
    """
    if settings.schedule == "epoch":
        return EpochCosine(
            settings.epochs,
            steps_per_epoch,
            settings.learning_rate,
            settings.min_learning_rate,
            settings.warmup_epochs,
            settings.warmup_learning_rate,
        )
    accumulated = settings.accumulation_steps
    steps = max(settings.epochs * steps_per_epoch // accumulated, 1)
    warmup = round(settings.warmup_epochs * steps_per_epoch / accumulated)
    warmup_steps = min(warmup, steps - 1)
    # After its last step the schedule stays at the lowest rate: that is the cool-down.
    cosine = StepCosine(
        steps,
        settings.learning_rate,
        settings.min_learning_rate,
        warmup_steps,
        settings.warmup_learning_rate,
    )
    return cosine if accumulated == 1 else InOptimizerSteps(cosine, accumulated)
