"""Sparsities, minimums and floors as exact numbers."""
