"""Scores: what ranks the weights of a network, one tensor for each prunable tensor; the smallest are pruned first.

Each is a function of the network that returns name -> scores, in the shapes and on the devices of the weights.
`gpmt.plan`, `gpmt.prune_` and `gpmt.Pruner` take them, or a function of the network that returns them, as ``scores``.

>>> import gpmt, torch
>>> layer = torch.nn.Linear(8, 4)
>>> batches = [(torch.randn(16, 8), torch.randint(4, (16,)))]
>>> gpmt.prune_(layer, sparsity=0.75, min_kept=2, scores=lambda net: gpmt.scores.taylor(net, batches)).pruned
24
"""

from gpmt.scores.files import load, save
from gpmt.scores.fisher_score import fisher
from gpmt.scores.magnitude_score import magnitude
from gpmt.scores.movement import Movement
from gpmt.scores.random_score import random
from gpmt.scores.ria_score import ria
from gpmt.scores.snip_score import snip
from gpmt.scores.synflow_score import synflow
from gpmt.scores.taylor_score import taylor
from gpmt.scores.wanda_score import wanda

__all__ = [
    "Movement",
    "fisher",
    "load",
    "magnitude",
    "random",
    "ria",
    "save",
    "snip",
    "synflow",
    "taylor",
    "wanda",
]
