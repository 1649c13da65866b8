"""Schedule and method of a run, in steps of its optimiser, and CrAM of its dense training."""

from typing import cast

from torch import nn
from torch.optim import Optimizer

from gpmt.core.schedule.schedule import Schedule
from gpmt.core.selection.nm import NM
from gpmt.errors import BudgetError, MethodError, RecipeError
from gpmt.planning.options import PlanOptions
from gpmt.pruner.arguments import complete
from gpmt.pruner.cram import CrAM
from gpmt.pruner.methods.method import Method
from gpmt.training.data.source import Source
from gpmt.training.recipes.schema import Recipe
from gpmt.training.run.optimizer import make_optimizer
from gpmt.training.run.setup import Setup, plan_options


def make_pruning(recipe: Recipe, source: Source) -> tuple[Schedule, Method]:
    """Return schedule and method for the epochs of fine-tuning."""
    prune, finetune = recipe.prune, recipe.finetune
    steps = source.train_steps(finetune.batch_size)
    schedule = prune.make_schedule(epochs=finetune.epochs, steps_per_epoch=steps)
    return schedule, prune.make_method(finetune.epochs * steps)


def make_cram(setup: Setup, optimizer: Optimizer) -> CrAM | None:
    """Return what trains the dense network for one-shot pruning, if the recipe asks for it.

    Raises `RecipeError` where it cannot prune as the recipe says, and for fp16.
    """
    prune, cram = setup.recipe.prune, setup.recipe.dense.cram
    if cram is None:
        return None
    if setup.accelerator.scaler is not None:
        raise RecipeError("dense.cram is given, but Accelerate scales gradients for fp16; give bf16")
    default = (0.5, 0.7, 0.9) if prune.pattern is None else (NM.parse(prune.pattern).sparsity,)
    try:
        return CrAM(
            setup.model, optimizer, sparsities=cram.sparsities or default, rho=cram.rho, **setup.pruning
        )
    except (BudgetError, MethodError) as error:
        raise RecipeError(f"dense.cram: {error}") from None


def check_pruning(setup: Setup) -> None:
    """Raise now what does not fit: of CrAM, and what the Pruner would raise after the dense training."""
    make_cram(setup, make_optimizer(setup.network, setup.recipe.dense))
    check_method(setup.recipe, setup.source, setup.network)


def check_method(recipe: Recipe, source: Source, network: nn.Module) -> None:
    """Raise now what the Pruner would raise after the dense training: of schedule and method that do not fit."""
    schedule, method = make_pruning(recipe, source)
    optimizer = make_optimizer(network, recipe.finetune)
    method.check(schedule, [optimizer], complete(cast(PlanOptions, plan_options(recipe))))
