"""Equal total budgets: how many epochs every method trains, and with which settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpmt.errors import RecipeError
from gpmt.training.recipes import section
from gpmt.training.recipes.schema import Recipe, Training


@dataclass(frozen=True)
class EpochBudget:
    """The epochs of a run.

    Attributes:
        total: all of them, the same for every method.
        dense: those before pruning, of a method that starts with a trained network; 0 where all start from weights
            that the recipe gives.
    """

    total: int
    dense: int


def budget_of(recipe: Recipe, epochs: int | None = None) -> EpochBudget:
    """Return the budget of the recipe, or of so many epochs in all, divided as the recipe divides its own.

    A recipe of one phase, which trains an untrained network, gives half of it to the dense network. Raises
    RecipeError for too few epochs.
    """
    dense, finetune = recipe.dense.epochs, recipe.finetune.epochs
    total = dense + finetune if epochs is None else epochs
    fewest = 1 if has_weights(recipe) else 2
    if total < fewest:
        given = f"--epochs is {total}" if epochs is not None else f"the recipe trains {total} epochs"
        raise RecipeError(f"{given}, but a comparison needs at least {fewest}; give more with --epochs")
    if has_weights(recipe):
        return EpochBudget(total, 0)
    share = dense / (dense + finetune) if dense and finetune else 0.5
    return EpochBudget(total, min(max(round(share * total), 1), total - 1))


def has_weights(recipe: Recipe) -> bool:
    """Whether the recipe names a trained network, from which all methods then start."""
    return section.has_weights({"model": recipe.model, "dense": {"checkpoint": recipe.dense.checkpoint}})


def phases(recipe: Recipe, budget: EpochBudget, *, starts_dense: bool) -> dict[str, Any]:
    """Return the settings of the two phases, by dotted key, for a method that prunes while it fine-tunes.

    A method that starts with a trained network has the recipe's own settings. One that trains an untrained network
    has those of the dense training, for all epochs. A phase that the recipe lacks takes the settings of the other.
    """
    if has_weights(recipe) or not starts_dense:
        scratch = recipe.dense if recipe.dense.epochs and not has_weights(recipe) else recipe.finetune
        settings = _training("finetune", scratch, budget.total)
        if not has_weights(recipe):
            settings["finetune.distill"] = 0.0
        return {"dense.epochs": 0, "dense.cram": None, **settings}
    dense = recipe.dense if recipe.dense.epochs else recipe.finetune
    finetune = recipe.finetune if recipe.finetune.epochs else recipe.dense
    return {
        **_training("dense", dense, budget.dense),
        **_training("finetune", finetune, budget.total - budget.dense),
    }


def dense_phases(recipe: Recipe, budget: EpochBudget) -> dict[str, Any]:
    """Return the settings of the two phases, by dotted key, for a network that is never pruned."""
    if has_weights(recipe):
        return phases(recipe, budget, starts_dense=True)
    dense = recipe.dense if recipe.dense.epochs else recipe.finetune
    return {
        **_training("dense", dense, budget.total),
        "finetune.epochs": 0,
        "finetune.distill": 0.0,
        "dense.cram": None,
    }


def _training(phase: str, source: Training, epochs: int) -> dict[str, Any]:
    """Return the settings of `source` as those of a phase of so many epochs.

    The warm-up is shortened where it would not end, and steps of the learning rate keep their share of the epochs.
    """
    settings = {name: getattr(source, name) for name in Training.model_fields}
    if phase == "dense" and source.lr == "auto":  # which follows from the rate of the dense phase
        del settings["lr"]
    if source.lr_schedule == "step":
        settings["lr_step_epochs"] = max(1, round(source.lr_step_epochs * epochs / source.epochs))
    settings |= {"epochs": epochs, "warmup_epochs": min(source.warmup_epochs, max(epochs - 1, 0))}
    return {f"{phase}.{name}": value for name, value in settings.items()}


def changes(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the settings, by dotted key, that the recipe has otherwise."""
    changed = {}
    for key, value in settings.items():
        phase, _, name = key.partition(".")
        if getattr(getattr(recipe, phase), name) != value:
            changed[key] = value
    return changed
