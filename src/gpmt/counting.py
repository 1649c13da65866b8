"""The weights of tensors and blocks, counted in chunks of a bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gpmt.core.blocks.blocks import WHOLE
from gpmt.core.layers.layers import output_dim
from gpmt.core.missing_data import check_has_data
from gpmt.core.scope.scope import Scope
from gpmt.core.scope.tensor_count import BlockCount, TensorCount
from gpmt.core.shards import whole
from gpmt.core.units.registry import unit_of
from gpmt.core.units.unit import Unit
from gpmt.masks import Masks

CHUNK = 1 << 20
"""Weights counted at a time, so that the memory for counting does not grow with the tensor."""


def count_tensors(
    scope: Scope, masks: Masks | None = None, *, granularity: str = "weight"
) -> tuple[TensorCount, ...]:
    """Count the weights, or the units of another granularity, of every tensor of a scope.

    Raises `ScopeError` for a tensor without such units, `WeightsError` for a tensor without data.
    """
    check_has_data(scope.tensors)
    unit = unit_of(granularity)
    for name, tensor in scope.tensors.items():
        unit.check(name, scope.axes[name], tuple(tensor.shape))
    return tuple(_count(name, whole(tensor), scope, masks, unit) for name, tensor in scope.tensors.items())


def count_blocks(rows: Sequence[TensorCount]) -> tuple[BlockCount, ...]:
    """Return the counts of every block, in the order of the tensors."""
    return tuple(
        block
        for row in rows
        for block in row.blocks or (BlockCount(row.name, row.numel, row.kept, row.kept_by_mask),)
    )


@torch.no_grad()
def _count(name: str, tensor: Tensor, scope: Scope, masks: Masks | None, unit: Unit) -> TensorCount:
    kind = scope.kinds[name]
    counted = _weights(name, tensor, kind, masks)
    axes = scope.axes[name]
    blocks = scope.blocks.get(name, WHOLE)
    if unit.name == "weight" and len(blocks) == 1:
        return counted
    views = blocks.views(tensor)
    shapes = blocks.shapes(tensor.shape)
    kept_views: Sequence[Tensor | None] = [None] * len(views)
    if masks is not None and name in masks:
        kept_views = blocks.views(masks[name])
    found = []
    for block, shape, view, kept in zip(blocks.names(name), shapes, views, kept_views, strict=True):
        numel, by_mask = unit.count(axes, shape), None
        if masks is not None:
            by_mask = numel if kept is None else unit.live(axes, kept.reshape(shape))
        found.append(
            BlockCount(block, numel, unit.live(axes, view.reshape(shape)), by_mask, part=len(blocks) > 1)
        )
    counted = replace(
        counted,
        numel=sum(block.numel for block in found),
        kept=sum(block.kept for block in found),
        kept_by_mask=None if masks is None else sum(block.kept_by_mask or 0 for block in found),
    )
    return counted if len(found) == 1 else replace(counted, blocks=tuple(found))


def _weights(name: str, tensor: Tensor, kind: str, masks: Masks | None) -> TensorCount:
    rows = tensor.transpose(0, output_dim(kind))
    at_a_time = max(1, CHUNK * len(rows) // max(1, tensor.numel()))
    kept = not_finite = live = 0
    for start in range(0, len(rows), at_a_time):
        chunk = rows[start : start + at_a_time].flatten(1)
        not_zero = chunk.count_nonzero(dim=1)
        kept += int(not_zero.sum())
        live += int(not_zero.count_nonzero())
        not_finite += chunk.numel() - int(chunk.isfinite().sum())
    by_mask = revived = None
    if masks is not None:
        by_mask, revived = tensor.numel(), 0
        if name in masks:
            pruned = ~masks[name].to(tensor.device)
            by_mask, revived = masks.kept(name), int((tensor.ne(0) & pruned).count_nonzero())
    shape = tuple(tensor.shape)
    return TensorCount(name, kind, shape, tensor.numel(), kept, not_finite, len(rows), live, by_mask, revived)
