"""Learning rates over a training."""

import keras
import numpy as np
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
        turn = np.arange(epochs + 1) / epochs
        self._rates = _rates(
            turn, learning_rate, min_learning_rate, warmup_epochs, warmup_learning_rate
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

    In step t, from 0, of N, with W steps of warm-up:

        warmup_learning_rate + t / W * (learning_rate - warmup_learning_rate)   t < W
        min_learning_rate + (learning_rate - min_learning_rate)
            * (1 + cos(pi (t - W) / (N - W))) / 2                   otherwise, t < N
        min_learning_rate                                                       t >= N

    Args:
        steps: int > 0. N.
        learning_rate: float > 0. The highest point.
        min_learning_rate: float >= 0.
        warmup_steps: int >= 0, below `steps`. W.
        warmup_learning_rate: float >= 0.

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
        turn = (np.arange(steps + 1) - warmup_steps) / (steps - warmup_steps)
        self._rates = _rates(
            turn, learning_rate, min_learning_rate, warmup_steps, warmup_learning_rate
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


def _rates(turn, highest, lowest, warmup, first):
    """Linear from `first` below `warmup`, then half a cosine, whose turns are given."""
    # In float64 and kept: computed in float32, the rate would be off in its 7th digit.
    t = np.arange(len(turn))
    fall = lowest + (highest - lowest) * (1 + np.cos(np.pi * turn)) / 2
    growth = (highest - first) / (warmup or 1)
    return np.where(t < warmup, first + growth * t, fall).astype("float32")


@keras.saving.register_keras_serializable(package="keras_qkformer")
class InOptimizerSteps(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that counts optimizer steps where gradients of several batches add up.

    Keras asks a schedule with the number of the batch.

    Args:
        schedule: a `LearningRateSchedule`.
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
    """The learning rate of a recipe as a function of the number of the batch.

    Args:
        settings: the recipe's `Optimizer`.
        steps_per_epoch: int. Batches in one epoch.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.
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
    every = settings.accumulation_steps
    steps = max(settings.epochs * steps_per_epoch // every, 1)
    warmup = round(settings.warmup_epochs * steps_per_epoch / every)
    warmup_steps = min(warmup, steps - 1)
    # After its last step it stays where it is: that is the cool-down.
    cosine = StepCosine(
        steps,
        settings.learning_rate,
        settings.min_learning_rate,
        warmup_steps,
        settings.warmup_learning_rate,
    )
    return cosine if every == 1 else InOptimizerSteps(cosine, every)
