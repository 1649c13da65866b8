"""Masks in one line."""

from __future__ import annotations


def summary(tensors: int, kept: int, numel: int) -> str:
    """Return the line for masks of so many tensors, which keep `kept` of `numel` weights.

    >>> summary(2, 25, 1000)
    'Masks(2 tensors, 25 of 1,000 weights kept, sparsity 97.5000%)'
    """
    sparsity = (numel - kept) / numel if numel else 0.0
    return f"Masks({tensors} tensors, {kept:,} of {numel:,} weights kept, sparsity {sparsity:.4%})"
