"""Data sets by name, read from files the user has; nothing is downloaded."""

from gpmt.training.data.datasets.load import load
from gpmt.training.data.datasets.registry import NAMES

__all__ = ["NAMES", "load"]
