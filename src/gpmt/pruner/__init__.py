"""Pruning while an optimiser trains."""
