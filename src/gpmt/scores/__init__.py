"""Scores: what ranks the weights of a network, one tensor for each prunable tensor; the smallest are pruned first.

Each is a function of the network that returns name -> scores, in the shapes and on the devices of the weights.
"""

from gpmt.scores.files import load, save
from gpmt.scores.fisher import fisher
from gpmt.scores.magnitude import magnitude
from gpmt.scores.movement import Movement
from gpmt.scores.random import random
from gpmt.scores.ria import ria
from gpmt.scores.snip import snip
from gpmt.scores.synflow import synflow
from gpmt.scores.taylor import taylor
from gpmt.scores.wanda import wanda

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
