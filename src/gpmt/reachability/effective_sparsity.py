"""Effective sparsity: how many weights are on a path of kept weights from the input of a network to its output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.core.blocks.blocks import WHOLE, BlockRule
from gpmt.core.layers.axes import Axes
from gpmt.core.missing_data import check_has_data
from gpmt.core.patterns import Patterns
from gpmt.core.scope.scope import Scope, find_scope
from gpmt.core.units.names import Granularity
from gpmt.core.units.registry import unit_of
from gpmt.core.units.unit import Unit
from gpmt.masks import Masks
from gpmt.model_tools import Example, plain_name, unwrap
from gpmt.reachability.network import find_links, record_network
from gpmt.torch_private import ConvNd

_NAMED = 3
"""Tensors that a message names."""


@dataclass(frozen=True)
class TensorPaths:
    """The paths through one tensor.

    Attributes:
        name, kind, shape: the tensor, and the class of its layer.
        numel: number of its weights, or columns.
        kept: those that are kept.
        active: those on a path of kept weights from the input to the output.
        idle: those kept that would be on none without pruning either, such as weights that meet only padding.
        outputs, inputs: channels (filters, rows) that it writes and reads.
        dead_outputs, dead_inputs: those without a kept weight.
        cut_outputs, cut_inputs: those with kept weights, all of which lost their paths to pruning elsewhere.
        used: whether the network reads the tensor.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    numel: int
    kept: int
    active: int
    idle: int
    outputs: int
    dead_outputs: int
    cut_outputs: int
    inputs: int
    dead_inputs: int
    cut_inputs: int
    used: bool

    def to_dict(self, *, unit: str = "weights") -> dict[str, Any]:
        """Return the counts as plain values, ready for JSON; `unit` names the values that were counted."""
        values = asdict(self)
        return {unit if key == "numel" else key: value for key, value in values.items()} | {
            "shape": list(self.shape)
        }


@dataclass(frozen=True)
class EffectiveSparsity:
    """The result of `effective_sparsity`; ``str()`` is one sentence.

    Attributes:
        tensors: the counts of each tensor.
        conservative: operators without a rule of their own, of which every result is taken to depend on every
            argument: weights around them may count as active though they are not.
        granularity: whether weights or columns are counted.
    """

    tensors: tuple[TensorPaths, ...]
    conservative: tuple[str, ...] = ()
    granularity: Granularity = "weight"

    @property
    def unit(self) -> str:
        """What is counted, such as "weights"."""
        return unit_of(self.granularity).plural

    @property
    def numel(self) -> int:
        """Number of weights or columns."""
        return sum(row.numel for row in self.tensors)

    @property
    def kept(self) -> int:
        """Number that is kept."""
        return sum(row.kept for row in self.tensors)

    @property
    def active(self) -> int:
        """Number that is on a path from the input to the output."""
        return sum(row.active for row in self.tensors)

    @property
    def inactive(self) -> int:
        """Number that is kept, but on no path."""
        return self.kept - self.active

    @property
    def idle(self) -> int:
        """Number that is kept, but would be on no path without pruning either."""
        return sum(row.idle for row in self.tensors)

    @property
    def sparsity(self) -> float:
        """The effective sparsity: the fraction that is not active."""
        return (self.numel - self.active) / self.numel

    @property
    def direct_sparsity(self) -> float:
        """The fraction that is not kept."""
        return (self.numel - self.kept) / self.numel

    @property
    def dead_outputs(self) -> int:
        """Number of outputs, of all tensors, without a kept weight."""
        return sum(row.dead_outputs for row in self.tensors)

    @property
    def cut_outputs(self) -> int:
        """Number of outputs, of all tensors, with kept weights, all of which are on no path."""
        return sum(row.cut_outputs for row in self.tensors)

    @property
    def intact(self) -> bool:
        """Whether no output is dead or cut, and no kept weight lost its paths."""
        return not self.dead_outputs and not self.cut_outputs and self.inactive == self.idle

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values, ready for JSON."""
        return {
            "granularity": self.granularity,
            self.unit: self.numel,
            "kept": self.kept,
            "active": self.active,
            "idle": self.idle,
            "sparsity": self.direct_sparsity,
            "effective_sparsity": self.sparsity,
            "dead_outputs": self.dead_outputs,
            "cut_outputs": self.cut_outputs,
            "conservative": list(self.conservative),
            "tensors": [row.to_dict(unit=self.unit) for row in self.tensors],
        }

    def __str__(self) -> str:
        parts = []
        for field, what in (("dead_outputs", "are dead"), ("cut_outputs", "are on no path")):
            rows = sorted(
                (row for row in self.tensors if getattr(row, field)), key=lambda row: -getattr(row, field)
            )
            named = [
                f"{getattr(row, field):,} of {row.outputs:,} outputs of {row.name}" for row in rows[:_NAMED]
            ]
            if len(rows) > _NAMED:
                named.append(f"outputs of {len(rows) - _NAMED:,} more tensors")
            if named:
                parts.append(f"{', '.join(named)} {what}")
        if self.inactive:
            idle = f", {self.idle:,} of them without pruning too" if self.idle else ""
            share = self.inactive / self.kept
            parts.append(f"{self.inactive:,} kept {self.unit} ({share:.2%}) are on no path{idle}")
        else:
            parts.append(f"each of {self.kept:,} kept {self.unit} is on a path from input to output")
        if unused := [row.name for row in self.tensors if not row.used]:
            more = f" and {len(unused) - _NAMED} more" if len(unused) > _NAMED else ""
            parts.append(f"the network does not use {', '.join(unused[:_NAMED])}{more}")
        if self.conservative:
            parts.append(f"taken to link all with all: {', '.join(self.conservative)}")
        sparsities = f"effective sparsity {self.sparsity:.2%} (kept {self.direct_sparsity:.2%})"
        return f"{'; '.join(parts)}: {sparsities}"


def effective_sparsity(
    model: nn.Module,
    example: Example,
    *,
    masks: Masks | None = None,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
    blocks: Mapping[str, BlockRule] | None = None,
    granularity: Granularity = "weight",
) -> EffectiveSparsity:
    """Count the weights that kept weights link both to the input and to the output of a network.

    A kept weight is *active* if the input can change what it multiplies, and what it adds to can change the output,
    by kept weights alone. The others are kept in vain; the sparsity that counts them as pruned is the effective
    sparsity.

    How signals pass, in evaluation mode:

    * Only pruned weights stop them. Biases, norms and all tensors out of scope count as non-zero.
    * A bias is no path from the input: a channel with nothing but a bias is constant. Learned tokens and queries, and
      what is computed of positions alone, are constants too.
    * Each element is followed on its own, so that a weight that meets only padding is on no path.
    * A sum passes what any of its terms passes. A product passes what a factor passes if the others are not always
      zero: a gate whose weights are all pruned is sigmoid(bias), which lets pass; one of SiLU without a bias is zero,
      which does not.
    * Batch-norm keeps channels apart; layer-norm, group-norm and softmax link everything that they normalise.
      Max-pooling passes what any element of its window passes.

    The network is recorded on tensors without data, and zeros and ones follow its calls. Neither masks are applied to
    it nor is anything of it changed. It takes about as long as training on the example for one or two steps, and 12
    bytes of memory for each weight beside the activations.

    Args:
        model: the network; wrappers are taken off.
        example: its input, a tensor, several, or a mapping by argument name; the values do not matter, the sizes do.
            One sample is enough.
        masks: which weights are kept; without them, those that are not zero.
        scope: patterns of the tensors to judge; by default those of the masks, or all prunable ones. Of tensors in
            scope that have no mask all weights are kept.
        exclude: patterns of tensors not to judge.
        blocks: as given when pruning: how tensors divide into blocks.
        granularity: as given when pruning: what `numel`, `kept` and `active` count; a unit counts as kept, or active,
            if any of its weights is.

    Returns:
        The counts; `sparsity` is the effective one.

    Raises:
        GpmtError: the network cannot be recorded: it does not run on the example, or its path depends on values.
        MaskError: masks of another network.
        ScopeError: a pattern that matches nothing, or nothing prunable.
        WeightsError: weights without data, and no masks.

    Source: Vysogorets & Kempe, Connectivity matters: neural network pruning through the lens of effective sparsity,
    JMLR 24 (2023), section 2; there by paths in a linear network of positive weights.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> with torch.no_grad():
    ...     net[0].weight[1] = 0  # so the weights that read output 1 are on no path
    >>> found = effective_sparsity(net, torch.zeros(1, 4))
    >>> found.kept, found.active, found.dead_outputs
    (14, 12, 1)
    """
    unit = unit_of(granularity)
    model = unwrap(model)
    found, kept = _kept(model, masks, scope, exclude, blocks)
    for name, mask in kept.items():
        unit.check(name, found.axes[name], tuple(mask.shape))
    recording = record_network(model, example)
    links = find_links(model, recording, found.tensors, kept)
    possible = links.active
    if any(bool((kept[name] & ~links.active[name]).any()) for name in kept):
        everything = {name: torch.ones_like(mask) for name, mask in kept.items()}
        possible = find_links(model, recording, found.tensors, everything).active
    rows = []
    for name, mask in kept.items():
        by_channel = partial(_by_channel, axes=found.axes[name], owner=_owner(model, name))
        parts = [by_channel(part) for part in (mask, links.active[name], possible[name])]
        count = partial(_count, unit, found, name)
        rows.append(
            TensorPaths(
                name,
                found.kinds[name],
                tuple(mask.shape),
                count(torch.ones_like(mask)),
                count(mask),
                count(links.active[name]),
                count(mask) - count(mask & possible[name]),
                *_channels(parts, (2, 3)),
                *_channels(parts, (1, 3)),
                name not in links.unused,
            )
        )
    return EffectiveSparsity(tuple(rows), links.conservative, granularity)


def _kept(
    model: nn.Module,
    masks: Masks | None,
    scope: Patterns | None,
    exclude: Patterns | None,
    blocks: Mapping[str, BlockRule] | None,
) -> tuple[Scope, dict[str, Tensor]]:
    """Return the tensors to judge, and a bool mask of each on the device to compute on."""
    if masks is None:
        found = find_scope(model, scope=scope, exclude=exclude, blocks=blocks)
        check_has_data(found.tensors)
        return found, {name: tensor.detach().ne(0) for name, tensor in found.tensors.items()}
    masks.fits(model)
    stored = {plain_name(name): name for name in masks}
    if scope is None and not exclude:
        scope = list(stored)
    found = find_scope(model, scope=scope, exclude=exclude, blocks=blocks)
    kept = {}
    for name, tensor in found.tensors.items():
        device = "cpu" if tensor.device.type == "meta" else tensor.device
        mask = (
            masks[stored[name]]
            if name in stored
            else torch.ones(tensor.shape, dtype=torch.bool, device="cpu")
        )
        kept[name] = mask.to(device)
    return found, kept


def _owner(model: nn.Module, name: str) -> nn.Module | None:
    """Return the module that has a tensor, also where it is reparametrised."""
    path = (
        name.partition(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]
    )
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _by_channel(mask: Tensor, axes: Axes, owner: nn.Module | None) -> Tensor:
    """Return a mask as [layers or groups, outputs, inputs, taps]."""
    arranged = axes.arrange(mask)
    groups = owner.groups if isinstance(owner, ConvNd) else 1
    if groups == 1:
        return arranged
    _, outputs, inputs, taps = arranged.shape
    if axes.output:  # of a transposed convolution, whose outputs are those of one group
        return arranged.reshape(outputs, groups, inputs // groups, taps).transpose(0, 1)
    return arranged.reshape(groups, outputs // groups, inputs, taps)


def _channels(parts: list[Tensor], dims: tuple[int, int]) -> tuple[int, int, int]:
    """Return how many channels there are, how many have no kept weight, and how many lost all their paths."""
    kept, active, possible = (part.any(dims[1]).any(dims[0]) for part in parts)
    return kept.numel(), _live(~kept), _live(kept & possible & ~active)


def _live(mask: Tensor) -> int:
    return int(mask.count_nonzero())


def _count(unit: Unit, scope: Scope, name: str, mask: Tensor) -> int:
    """Count the units of all blocks of a tensor that have a weight of the mask."""
    blocks = scope.blocks.get(name, WHOLE)
    shapes, views = blocks.shapes(mask.shape), blocks.views(mask)
    return sum(
        unit.live(scope.axes[name], view.reshape(shape)) for shape, view in zip(shapes, views, strict=True)
    )
