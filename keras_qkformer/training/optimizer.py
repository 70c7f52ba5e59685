"""The optimizer of a recipe, with a learning rate per layer if asked for."""

import keras
from keras import ops

from keras_qkformer.training.schedules import make_schedule


@keras.saving.register_keras_serializable(package="keras_qkformer")
class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW with a learning rate per layer, in fewer operations than that of Keras.

    The learning rate of a variable, for its update and its weight decay, is the common
    rate times the factor of its layer. Schedule and bias correction are computed once
    in a step, in float32 at least: `keras.optimizers.AdamW` computes them anew for
    every variable, in its type (in bfloat16, `1 - beta_2` is 0).

    Args:
        learning_rate: float or `LearningRateSchedule`. The common rate.
        layer_factors: dict from the names of layers, such as `"stage1_block1"`, to
            floats >= 0. All other layers have factor 1.
        **kwargs: passed to `keras.optimizers.AdamW`, without `amsgrad`.

    Reference:
        [Bao et al., 2022](https://openreview.net/forum?id=p-BhZSz59o4), layer decay.
    """

    def __init__(self, learning_rate=0.001, layer_factors=None, **kwargs):
        if kwargs.get("amsgrad"):
            raise ValueError("amsgrad must be False. Received: True")
        super().__init__(learning_rate, **kwargs)
        self.layer_factors = dict(layer_factors or {})

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        is_double = any(v.dtype == "float64" for v in trainable_variables)
        dtype = "float64" if is_double else "float32"
        step = ops.cast(self.iterations + 1, dtype)
        rate = ops.cast(learning_rate, dtype)
        # As tensors: a number would be rounded to float32 first.
        betas = (ops.convert_to_tensor(b, dtype) for b in (self.beta_1, self.beta_2))
        first, second = (1 - ops.power(beta, step) for beta in betas)
        size = rate * ops.sqrt(second) / first
        decay = rate * (self.weight_decay or 0)
        # What is handed on reaches `update_step` on every device as it is.
        super()._backend_update_step(grads, trainable_variables, (size, decay))

    def update_step(self, gradient, variable, learning_rate):
        factor = self._factor(variable)
        size, decay = (ops.cast(rate, variable.dtype) for rate in learning_rate)
        if factor != 1:
            size, decay = size * factor, decay * factor
        gradient = ops.cast(gradient, variable.dtype)
        index = self._get_variable_index(variable)
        moment, square = self._momentums[index], self._velocities[index]
        mean = moment + (gradient - moment) * (1 - self.beta_1)
        variance = square + (ops.square(gradient) - square) * (1 - self.beta_2)
        self.assign(moment, mean)
        self.assign(square, variance)
        step = mean * size / (ops.sqrt(variance) + self.epsilon)
        if self.weight_decay and self._use_weight_decay(variable):
            step = step + variable * decay
        self.assign_sub(variable, step)

    def _apply_weight_decay(self, variables):
        """Do nothing: `update_step` does, where a variable may be changed."""

    def _factor(self, variable):
        # On TensorFlow the argument is a tf.Variable, which has no path.
        index = self._get_variable_index(variable)
        path = self._trainable_variables[index].path
        # Any part of the path: it may or may not start with the name of the model.
        for part in path.split("/"):
            if part in self.layer_factors:
                return self.layer_factors[part]
        return 1.0

    def get_config(self):
        return {**super().get_config(), "layer_factors": self.layer_factors}


_CLASSES = {
    "adamw": keras.optimizers.AdamW,
    "lamb": keras.optimizers.Lamb,
    "sgd": keras.optimizers.SGD,
}


def make_optimizer(settings, model, steps_per_epoch, schedule=None):
    """Make the optimizer of a recipe.

    Args:
        settings: the recipe's `Optimizer`.
        model: a built Keras model.
        steps_per_epoch: int > 0. Batches per epoch.
        schedule: `LearningRateSchedule`, or `None` for that of the settings.

    Returns:
        A Keras optimizer, built for the variables of the model. One-dimensional
        variables (biases, BatchNorm) have no weight decay.
    """
    options = {
        "weight_decay": settings.weight_decay,
        "global_clipnorm": settings.clip_norm,
    }
    if settings.accumulation_steps > 1:
        options["gradient_accumulation_steps"] = settings.accumulation_steps
    if schedule is None:
        schedule = make_schedule(settings, steps_per_epoch)
    if settings.name == "sgd":
        options["momentum"] = settings.momentum
    factors = {}
    if settings.layer_decay != 1:
        for layer in _layers_from_the_head(model):
            factors[layer] = settings.layer_decay ** len(factors)
    # Keras has a faster AdamW for PyTorch, which a subclass would not get.
    is_torch = keras.backend.backend() == "torch"
    if settings.name == "adamw" and (factors or not is_torch):
        optimizer = LayerwiseAdamW(schedule, factors, **options)
    else:
        optimizer = _CLASSES[settings.name](schedule, **options)
    # Exclude variables, not names: names match differently on each backend.
    optimizer.exclude_from_weight_decay(
        var_list=[v for v in model.trainable_variables if len(v.shape) <= 1]
    )
    optimizer.build(model.trainable_variables)
    return optimizer


def _layers_from_the_head(model):
    """Names of the layers of a model that have variables, from the head backwards."""
    paths = [v.path.split("/")[:-1] for v in model.trainable_variables]
    # All paths start with the name of a subclassed model, none with a functional one's.
    differing = (
        i for i, parts in enumerate(zip(*paths, strict=False)) if len(set(parts)) > 1
    )
    depth = next(differing, 0)
    return list(dict.fromkeys(path[depth] for path in reversed(paths)))
