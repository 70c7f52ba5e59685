"""A sweep of the learning rate: the loss at each rate, and a rate to start from."""

import keras
import numpy as np

from keras_qkformer.backend import prepare_backend
from keras_qkformer.training.schedules import InOptimizerSteps, Sweep
from keras_qkformer.training.setup import (
    compile_model,
    precision_of,
    prepare_training,
)

LOWEST, HIGHEST = 1e-5, 1.0
STEPS = 100
_SMOOTHING = 0.9
_DIVERGED = 2.0


def find_rate(recipe, steps=STEPS):
    """Train a recipe's model for some steps, while the learning rate grows.

    Step t of N trains with `LOWEST * (HIGHEST / LOWEST)**(t / (N - 1))`. The model is
    new, or the preset's, and is thrown away; no file is written. One device computes.

    Args:
        recipe: a `Recipe`. Its own rate and schedule have no effect.
        steps: int > 1. Number of optimizer steps, each of the recipe's
            `accumulation_steps` batches. The sweep ends earlier if the loss diverges.

    Returns:
        `(rates, losses, suggestion)`: float arrays `(steps,)`, the loss of each step
        before its batches are trained on, and the suggested rate, see `suggest_rate`.

    Raises:
        ValueError: if a value of the recipe does not fit, or the loss is not finite or
            grows from the beginning.

    Reference:
        [Smith, 2017](https://arxiv.org/abs/1506.01186), the range test.
    """
    prepare_backend()
    keras.utils.set_random_seed(recipe.seed)
    with precision_of(recipe):
        model, examples = prepare_training(recipe)
    sweep = Sweep(steps, LOWEST, HIGHEST)
    each = recipe.optimizer.accumulation_steps
    compile_model(model, recipe, examples.steps, InOptimizerSteps(sweep, each))
    losses, of_step = [], []
    epochs = -(-steps * each // max(examples.steps, 1))
    with examples.plain_errors():
        batches = examples.training(first_epoch=0, epochs=epochs).take(steps * each)
        for batch in batches.as_numpy_iterator():  # JAX takes no tensors of TensorFlow.
            model.reset_metrics()
            of_step.append(model.train_on_batch(*batch, return_dict=True)["loss"])
            if len(of_step) < each:
                continue
            loss, of_step = float(np.mean(of_step)), []
            if not np.isfinite(loss):
                break
            losses.append(loss)
            smooth = _smooth(losses)
            if smooth[-1] > _DIVERGED * smooth.min():
                break
    rates = sweep.rates[: len(losses)]
    return rates, np.array(losses), suggest_rate(rates, losses)


def suggest_rate(rates, losses):
    """Suggest a tenth of the rate at which the smoothed loss is nearly lowest.

    That is where it has done nine tenths of its fall: the lowest value itself may be
    anywhere on a plateau. At a tenth of that rate the loss falls, too, and training
    remains stable when the rate stays for long.

    Args:
        rates: floats `(steps,)`, growing by a constant factor.
        losses: floats `(steps,)`.

    Returns:
        float.

    Raises:
        ValueError: if the loss does not fall.

    Example:
    >>> rates = np.geomspace(1e-5, 1, 11)
    >>> losses = [2.3, 2.3, 2.3, 2.2, 2.0, 1.2, 0.2, 0.3, 4.6, 9.0, 20.0]
    >>> round(suggest_rate(rates, losses), 4)
    0.0032
    """
    smooth = _smooth(losses)
    if not len(losses) or smooth.min() == smooth[0]:
        first = ", ".join(f"{loss:.3g}" for loss in losses[:5])
        raise ValueError(
            "The loss must fall at some rate of the sweep. "
            f"Received: losses {first or 'that are not finite'}"
        )
    level = smooth.min() + 0.1 * (smooth[0] - smooth.min())
    return float(rates[int(np.argmax(smooth <= level))]) / 10


def _smooth(losses):
    """The moving average of losses, each step of which counts 0.1, without bias."""
    average, averages = 0.0, []
    for count, loss in enumerate(losses, 1):
        average += (1 - _SMOOTHING) * (loss - average)
        averages.append(average / (1 - _SMOOTHING**count))
    return np.array(averages)
