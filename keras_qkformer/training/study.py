"""A study: variants of recipes times seeds, and how their scores are compared."""

import contextlib
import dataclasses
import runpy
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from keras_qkformer.data.settings import STRICT
from keras_qkformer.data.source import check_name
from keras_qkformer.json_files import explain
from keras_qkformer.mistakes import did_you_mean
from keras_qkformer.presets.declared import check_settings
from keras_qkformer.printable import printable
from keras_qkformer.training.recipe import load_recipe, override

_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=60)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Evaluation:
    """A way to score a trained model on the test split of its recipe.

    Attributes:
        membrane_state: `"sample"` or `"batch"`, see `SpikingSelfAttention`; or `None`
            for that of the training.
        order: `"source"`, the order of the split; `"by_class"`, one class after the
            other; or `"shuffled"`, by the seed of the training.
        batch_size: examples that pass the model together, or `None` for the batch size
            of the training.
    """

    membrane_state: Literal["sample", "batch"] | None = None
    order: Literal["source", "by_class", "shuffled"] = "source"
    batch_size: Annotated[int, Field(gt=0, le=100_000)] | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Study:
    """A question, the trainings that answer it, and how their scores are compared.

    Attributes:
        question: what the study asks.
        plan: the analysis, as it was decided before the first result.
        variants: dict from a name to a recipe and its overrides, such as
            `{"large": ["../recipes/digits.py", "model.embed_dim=128"]}`. The path is
            relative to the file of the study.
        seeds: number of trainings of each variant, with the seeds from 0 on.
        evaluations: dict from a name, other than `"test"`, to an `Evaluation`, which
            each training gets besides the test of `fit`.
        comparisons: pairs of scores whose difference the study asks for. A score is the
            name of a variant, or `VARIANT@EVALUATION`.
        backends: dict from the name of a variant to the Keras backend that trains it.
            A process passes over the variants of another backend than its own. The
            variants that are not named are all trained on one backend, whichever.
    """

    question: str
    plan: str
    variants: Annotated[dict[_Name, list[str]], Field(min_length=1)]
    seeds: Annotated[int, Field(gt=0, le=1000)] = 5
    evaluations: dict[_Name, Evaluation] = Field(default_factory=dict)
    comparisons: list[tuple[str, str]] = Field(default_factory=list)
    backends: dict[str, Literal["tensorflow", "jax", "torch"]] = Field(
        default_factory=dict
    )

    def __post_init__(self):
        for name, variant in self.variants.items():
            if not variant:
                raise ValueError(f"The variant {name!r} must name a recipe")
        if "test" in self.evaluations:
            raise ValueError(
                "An evaluation must have another name than the test of fit. "
                "Received: 'test'"
            )
        known = {*self.variants}
        known |= {f"{v}@{e}" for v in self.variants for e in self.evaluations}
        for name in self.backends:
            if name not in self.variants:
                raise ValueError(
                    "A backend must be that of a variant. "
                    f"Received: {name!r}{did_you_mean(name, self.variants)}"
                )
        for name in sum(self.comparisons, ()):
            if name not in known:
                raise ValueError(
                    "A comparison must name variants, or VARIANT@EVALUATION. "
                    f"Received: {name!r}{did_you_mean(name, known)}"
                )


def load_study(path):
    """Read a study file.

    Args:
        path: str or path of a Python file that defines `study`.

    Returns:
        A `Study`.

    Raises:
        ValueError: if there is no such file, or it defines no valid study.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"A study must be a Python file. Received: {str(path)!r}")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Ours is the table.
            study = runpy.run_path(str(path)).get("study")
    except ValidationError as error:
        raise ValueError(f"{path}: {explain(error)}") from error
    except SystemExit as error:
        raise ValueError(
            f"A study must define `study`. Received: {path}, which ended with "
            f"status {error.code}"
        ) from error
    except Exception as error:
        raise ValueError(
            f"A study must be Python that runs. Received: {path}, which failed: "
            f"{type(error).__name__}: {printable(str(error))}"
        ) from error
    if not isinstance(study, Study):
        raise ValueError(
            "A study file must define `study`, a Study. "
            f"Received: {path} with {printable(repr(study))}"
        )
    return study


def recipes_of(study, place, overrides=()):
    """Read and check the recipes of a study, before any of them is trained.

    Args:
        study: a `Study`.
        place: str or path of its file.
        overrides: sequence of str, see `load_recipe`, which hold for all variants.

    Returns:
        Dict from `(variant, seed)` to a `Recipe`, in the order of training: all
        variants with one seed before the next seed, so that an interrupted study
        compares like with like.

    Raises:
        ValueError: if a recipe can't be read, or a value does not fit.
    """
    recipes = {}
    for name, (path, *own) in study.variants.items():
        try:
            recipe = load_recipe(Path(place).parent / path, [*own, *overrides])
            check_settings(recipe.preset, recipe.model)
            check_name(recipe.data.name)
        except ValueError as error:
            raise ValueError(f"variant {name!r}: {error}") from error
        recipes[name] = recipe
    return {
        (name, seed): override(recipe, [f"seed={seed}"])
        for seed in range(study.seeds)
        for name, recipe in recipes.items()
    }


def declared(study, overrides=()):
    """Return what a study declares, as a dict that JSON can hold.

    Args:
        study: a `Study`.
        overrides: sequence of str, as for `recipes_of`.
    """
    return {**dataclasses.asdict(study), "overrides": [*overrides]}
