"""Write learning_rates.npz: timm's own curve for the optimizer of every recipe.

Run once, with PyTorch installed and the folder of an unpacked timm 1.0.31 as argument
(only its schedulers are imported, which need no torchvision):

    python tests/golden/make_learning_rates.py FOLDER
"""

import dataclasses
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch

from keras_qkformer.training.recipe import load_recipe

ROOT = Path(__file__).parents[2]
STEPS_PER_EPOCH = 7
"""So few that a whole curve is small, and no divisor of anything."""


def timm_rates(scheduler_class, settings):
    """The rate of every batch, as timm's training script asks for it."""
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=settings.learning_rate)
    shared = {"lr_min": settings.min_learning_rate}
    shared["warmup_lr_init"] = settings.warmup_learning_rate
    epochs = settings.epochs + settings.cooldown_epochs
    if settings.schedule == "epoch":
        scheduler = scheduler_class(
            optimizer,
            t_initial=settings.epochs,
            warmup_t=settings.warmup_epochs,
            t_in_epochs=True,
            **shared,
        )
        rates = []
        for epoch in range(epochs):
            scheduler.step(epoch)
            rates += [optimizer.param_groups[0]["lr"]] * STEPS_PER_EPOCH
        return rates
    updates = settings.epochs * STEPS_PER_EPOCH // settings.accumulation_steps
    warmup = settings.warmup_epochs * STEPS_PER_EPOCH / settings.accumulation_steps
    scheduler = scheduler_class(
        optimizer,
        t_initial=updates - round(warmup),
        warmup_t=round(warmup),
        warmup_prefix=True,
        t_in_epochs=False,
        **shared,
    )
    rates = []
    for batch in range(epochs * STEPS_PER_EPOCH):
        scheduler.step_update(batch // settings.accumulation_steps)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def main(folder):
    """Write the curves beside this file."""
    # timm's own __init__ would import torchvision.
    package = types.ModuleType("timm")
    package.__path__ = [str(Path(folder) / "timm")]
    sys.modules["timm"] = package
    from timm.scheduler.cosine_lr import CosineLRScheduler

    arrays = {"steps_per_epoch": STEPS_PER_EPOCH}
    for path in sorted((ROOT / "recipes").glob("*.py")):
        settings = load_recipe(path).optimizer
        print(path.stem, json.dumps(dataclasses.asdict(settings)))
        arrays[path.stem] = timm_rates(CosineLRScheduler, settings)
    np.savez_compressed(Path(__file__).with_name("learning_rates.npz"), **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
