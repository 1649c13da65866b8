"""Scores: what ranks the weights of a network, one tensor for each prunable tensor; the smallest are pruned first."""

from gpmt.scores.ria import ria
from gpmt.scores.wanda import wanda

__all__ = ["ria", "wanda"]
