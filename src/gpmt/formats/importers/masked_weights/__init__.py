"""Importers of weights that a pruning tool stored together with their masks."""
