"""An exponential moving average of all weights of a model."""

import contextlib

import keras
from keras import ops


class WeightAverage(keras.callbacks.Callback):
    """Keeps a moving average of all weights, and validates with it.

    After every optimizer step, in the compiled training step:

        average = decay * average + (1 - decay) * weight

    for all weights, with the moving statistics of BatchNorm. The averages start at the
    weights of the new model and take their place during validation. They are variables
    of the optimizer, so checkpoints hold them.

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
        # The inner optimizer does not count steps that a LossScaleOptimizer skips.
        self.optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        self.weights = model.weights
        self.averages = [
            self.optimizer.add_variable_from_reference(weight, "average")
            for weight in self.weights
        ]
        for average, weight in zip(self.averages, self.weights, strict=True):
            average.assign(ops.copy(weight))  # Without a copy JAX shares the memory.
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
        weighting = 1 - self.decay
        if self.accumulation_steps > 1:
            # `_iterations` counts batches, `iterations` optimizer steps.
            accumulated = self.optimizer._iterations % self.accumulation_steps
            weighting = ops.where(accumulated == 0, weighting, 0.0)
        for average, weight in zip(self.averages, self.weights, strict=True):
            weight = ops.stop_gradient(ops.convert_to_tensor(weight))
            change = ops.cast(weighting, average.dtype) * (weight - average)
            average.assign(average + change)

    @contextlib.contextmanager
    def applied(self):
        """Context in which the averages are the weights of the model."""
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
