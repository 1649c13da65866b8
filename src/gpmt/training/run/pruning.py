"""Schedule and method of a run, in steps of its optimiser."""

from typing import cast

from gpmt.core.schedule import Schedule
from gpmt.planning.options import PlanOptions
from gpmt.pruner.arguments import complete
from gpmt.pruner.methods.method import Method
from gpmt.training.run.optimizer import make_optimizer
from gpmt.training.run.setup import Setup


def make_pruning(setup: Setup) -> tuple[Schedule, Method]:
    """Return schedule and method for the epochs of fine-tuning."""
    prune, finetune = setup.recipe.prune, setup.recipe.finetune
    steps = setup.source.train_steps(finetune.batch_size)
    schedule = prune.make_schedule(epochs=finetune.epochs, steps_per_epoch=steps)
    return schedule, prune.make_method(finetune.epochs * steps)


def check_pruning(setup: Setup) -> None:
    """Raise now what the Pruner would raise after the dense training: of schedule and method that do not fit."""
    schedule, method = make_pruning(setup)
    optimizer = make_optimizer(setup.network, setup.recipe.finetune)
    method.check(schedule, [optimizer], complete(cast(PlanOptions, setup.pruning)))
