"""The optimizer of a recipe, its learning rates, and the average of the weights."""

import contextlib

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


@keras.saving.register_keras_serializable(package="keras_qkformer")
class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW with a learning rate of its own for each layer of a model.

    The rate of a variable is the common one, times the factor of its layer; so is that
    of its weight decay.

    Args:
        learning_rate: float or `LearningRateSchedule`. The common rate.
        layer_factors: dict from the names of layers, such as `"stage1_block1"`, to
            floats >= 0. A variable of none of them has factor 1.
        **kwargs: passed to `keras.optimizers.AdamW`.

    Reference:
        [Bao et al., 2022](https://openreview.net/forum?id=p-BhZSz59o4), layer decay.
    """

    def __init__(self, learning_rate=0.001, layer_factors=None, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.layer_factors = dict(layer_factors or {})

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate * self._factor(variable))

    def _apply_weight_decay(self, variables):
        for variable in variables:
            if self._use_weight_decay(variable):
                rate = ops.cast(self.learning_rate, variable.dtype)
                share = self._factor(variable) * self.weight_decay
                variable.assign(variable - variable * (rate * share))

    def _factor(self, variable):
        # TensorFlow gives its own variables here, which have no path.
        index = self._get_variable_index(variable)
        path = self._trainable_variables[index].path
        # Not by the whole path: that of a model has its name in front or has not.
        for part in path.split("/"):
            if part in self.layer_factors:
                return self.layer_factors[part]
        return 1.0

    def get_config(self):
        return {**super().get_config(), "layer_factors": self.layer_factors}


class WeightAverage(keras.callbacks.Callback):
    """An exponential moving average of a model's weights, used wherever it is judged.

    After every optimizer step, in the compiled training step:

        average = decay * average + (1 - decay) * weight

    for all weights, the moving statistics of BatchNorm included; it starts at the
    weights of the new model. During validation the averages are in the model's place.
    They are variables of the optimizer: a checkpoint that holds it holds them.

    Args:
        model: a compiled model whose optimizer is built. Its `train_step` is replaced.
        decay: float in [0, 1).
        accumulation_steps: int > 0. Batches per optimizer step.

    Differences from the source: timm averages the integer counters of BatchNorm too;
    Keras has none.

    Reference:
        timm 1.0, `ModelEmaV2`, which averages parameters and buffers.
    """

    def __init__(self, model, decay, accumulation_steps=1):
        super().__init__()
        self.decay = decay
        self.accumulation_steps = accumulation_steps
        # The one that a LossScaleOptimizer holds counts the steps that were made.
        self.optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        self.weights = model.weights
        self.averages = [
            self.optimizer.add_variable_from_reference(weight, "average")
            for weight in self.weights
        ]
        for average, weight in zip(self.averages, self.weights, strict=True):
            average.assign(ops.copy(weight))  # JAX would share the memory.
        model.train_step = self._averaging(model, model.train_step)

    def _averaging(self, model, train_step):
        if keras.backend.backend() != "jax":

            def averaging_step(data):
                logs = train_step(data)
                self._update()
                return logs

            return averaging_step

        def averaging_step(state, data):
            logs, (trainable, non_trainable, optimizer, metrics) = train_step(
                state, data
            )
            variables = (
                *model.trainable_variables,
                *model.non_trainable_variables,
                *model.optimizer.variables,
            )
            values = (*trainable, *non_trainable, *optimizer)
            with keras.StatelessScope(list(zip(variables, values, strict=True))) as now:
                self._update()
            optimizer = [now.get_current_value(v) for v in model.optimizer.variables]
            return logs, (trainable, non_trainable, optimizer, metrics)

        return averaging_step

    def _update(self):
        share = 1 - self.decay
        if self.accumulation_steps > 1:
            # `iterations` counts optimizer steps, the attribute behind it batches.
            left = self.optimizer._iterations % self.accumulation_steps
            share = ops.where(left == 0, share, 0.0)
        for average, weight in zip(self.averages, self.weights, strict=True):
            weight = ops.stop_gradient(ops.convert_to_tensor(weight))
            step = ops.cast(share, average.dtype) * (weight - average)
            average.assign(average + step)

    @contextlib.contextmanager
    def applied(self):
        """Inside, the model has the averages as its weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self):
        for average, weight in zip(self.averages, self.weights, strict=True):
            kept = ops.copy(weight)
            weight.assign(average)
            average.assign(kept)

    def on_test_begin(self, logs=None):
        self._swap()

    def on_test_end(self, logs=None):
        self._swap()


def make_optimizer(settings, model, steps_per_epoch):
    """AdamW with the learning rate of a recipe.

    Args:
        settings: the recipe's `Optimizer`.
        model: a built Keras model.
        steps_per_epoch: int. Batches in one epoch.

    Returns:
        An optimizer that is built for the model. One-dimensional tensors (biases,
        BatchNorm) do not decay.
    """
    options = {
        "weight_decay": settings.weight_decay,
        "global_clipnorm": settings.clip_norm,
    }
    if settings.accumulation_steps > 1:
        options["gradient_accumulation_steps"] = settings.accumulation_steps
    schedule = make_schedule(settings, steps_per_epoch)
    if settings.layer_decay == 1:
        # Not the subclass with factors of 1: Keras has a faster one for PyTorch.
        optimizer = keras.optimizers.AdamW(schedule, **options)
    else:
        factors = {}
        for layer in _layers_from_the_head(model):
            factors[layer] = settings.layer_decay ** len(factors)
        optimizer = LayerwiseAdamW(schedule, factors, **options)
    # By variable: names match differently on each backend.
    optimizer.exclude_from_weight_decay(
        var_list=[v for v in model.trainable_variables if len(v.shape) <= 1]
    )
    optimizer.build(model.trainable_variables)
    return optimizer


def _layers_from_the_head(model):
    """Names of the parts of a model that have variables, the last one first."""
    paths = [v.path.split("/")[:-1] for v in model.trainable_variables]
    # The name of a functional model is in no path, that of another one in all.
    differing = (
        i for i, parts in enumerate(zip(*paths, strict=False)) if len(set(parts)) > 1
    )
    shared = next(differing, 0)
    return list(dict.fromkeys(path[shared] for path in reversed(paths)))


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
