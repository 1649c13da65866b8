"""The learning rates of a phase, and how ``lr: auto`` chooses those of fine-tuning.

* One-shot pruning of a dense network: linear to 0 by step, after a warm-up over a tenth of the steps (LLR), from the
  dense phase's rate times what the pruning makes necessary (ALLR: Zimmer et al. 2023, arXiv 2111.00843).
* The same where the dense phase lowers its rate in steps and fine-tuning is long enough to reach back past the last
  one: the dense phase's own rates of so many last epochs (rewinding: Renda et al. 2020, arXiv 2003.02389).
* Pruning while training: the dense phase's rate, falling like half a cosine by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from gpmt.core.schedule.schedule import Schedule
from gpmt.core.shards import whole
from gpmt.training.recipes.schema import Dense, Recipe, Training

WARMUP = 0.1
"""The share of the steps of fine-tuning over which LLR warms up."""


@dataclass(frozen=True)
class Rates:
    """The rate of step `step` of the `steps` of epoch `epoch`, both from 0, as ``rates(epoch, step, steps)``.

    `words` says how they were chosen, and is empty where the recipe gives them.
    """

    rate: Callable[[int, int, int], float]
    words: str = ""

    def __call__(self, epoch: int, step: int, steps: int) -> float:
        """Return one rate."""
        return self.rate(epoch, step, steps)


def given_rates(settings: Training, schedule: Schedule | None = None) -> Rates:
    """Return the rates that a phase gives; those of ``restart`` begin again at each pruning of a schedule."""
    if schedule is None or settings.lr_schedule != "restart":
        return Rates(settings.learning_rate)
    prunings = [event.time for event in schedule.events() if event.sparsity is not None]
    return Rates(partial(settings.learning_rate, restarts=prunings))


def chosen_rates(recipe: Recipe, change: float) -> Rates:
    """Return the rates of fine-tuning for ``lr: auto``; `change` is `relative_change` of the network."""
    dense, finetune = recipe.dense, recipe.finetune
    if not recipe.prune.needs_weights:
        settings = finetune.model_copy(
            update={"lr": dense.lr, "lr_schedule": "cosine", "lr_per_step": True, "lr_final": 0.0}
        )
        return Rates(
            settings.learning_rate, f"{dense.lr:g}, as in dense training, falling like half a cosine by step"
        )
    if (back := rewound_epoch(dense, finetune.epochs)) is not None:
        return Rates(
            lambda epoch, step, steps: dense.learning_rate(back + epoch, step, steps),
            f"rewound: those of the dense epochs {back + 1} to {dense.epochs}, from {dense.learning_rate(back):g}",
        )
    least = finetune.epochs / dense.epochs if dense.epochs else 0.0
    factor = min(max(change, least), 1.0)
    peak = float(dense.lr) * factor
    return Rates(
        lambda epoch, step, steps: warmed_linear(peak, epoch * steps + step, finetune.epochs * steps),
        f"linear to 0 by step from {peak:.4g}, {factor:.3f} of {dense.lr:g} in dense training, after a warm-up over "
        f"{WARMUP:.0%} of the steps",
    )


def rewound_epoch(dense: Dense, epochs: int) -> int | None:
    """Return the epoch of dense training to which so many epochs of fine-tuning are rewound, from 0.

    None where its rate is not lowered in steps, or fine-tuning would only repeat the last of them.

    >>> dense = Dense(epochs=90, lr_schedule="step", lr_step_epochs=30)
    >>> [rewound_epoch(dense, epochs) for epochs in (30, 45, 91)]
    [None, 45, None]
    """
    if dense.lr_schedule != "step" or not 0 < epochs <= dense.epochs:
        return None
    last_drop = (dense.epochs - 1) // dense.lr_step_epochs * dense.lr_step_epochs
    back = dense.epochs - epochs
    return back if back < last_drop else None


def warmed_linear(peak: float, done: int, total: int) -> float:
    """Return the rate of step `done` of `total`: up to `peak` over the first tenth, then linearly to 0.

    >>> [round(warmed_linear(0.9, step, 20), 3) for step in (0, 1, 2, 11, 19)]
    [0.45, 0.9, 0.9, 0.45, 0.05]
    """
    warmup = min(max(1, round(WARMUP * total)), total - 1)
    if done < warmup:
        return peak * (done + 1) / warmup
    return peak * (total - done) / (total - warmup)


@torch.no_grad()
def squared_norm(network: nn.Module) -> float:
    """Return the sum of the squares of all parameters; processes that share them call it together."""
    return math.fsum(float(whole(weight.detach()).double().square().sum()) for weight in network.parameters())


def relative_change(before: float, after: float, sparsity: float) -> float:
    """Return ‖w − w_p‖ / (‖w‖ √s), where the share s of the weights was pruned, from squared norms.

    >>> relative_change(4.0, 3.0, 0.25)
    1.0
    """
    if not sparsity or not before:
        return 0.0
    return math.sqrt(max(before - after, 0.0) / before / sparsity)
