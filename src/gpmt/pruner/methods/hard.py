"""Hard masks: pruned weights are zero, and so is the optimiser's state of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gpmt.pruner.methods.method import Method
from gpmt.pruner.methods.rule import Rule
from gpmt.pruner.trained_network import TrainedNetwork


@dataclass(frozen=True)
class Hard(Method):
    """Pruned weights are zero after every step, until the schedule restores them: the default.

    The way of one-shot and gradual pruning, and of AC/DC.

    >>> Hard().to_dict()
    {'name': 'hard'}
    """

    name: ClassVar[str] = "hard"

    def rule(self, network: TrainedNetwork) -> Rule:
        """Return what carries it out."""
        return Rule(network)
