"""Masks that change by an exchange: the smallest of the kept weights go, and as many of the others come.

It is the step of dynamic sparse training (Mocanu et al. 2018; Evci et al. 2020) on the exact selection.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from gpmt.core.budget.minimums import Minimums
from gpmt.core.keys.key_packing import pack_keys
from gpmt.core.keys.keys import ScoreKeys, score_format_of
from gpmt.core.keys.packed_bits import unpack
from gpmt.core.scope.scope import Scope
from gpmt.core.selection.select import select
from gpmt.core.shards import whole
from gpmt.errors import MethodError, ScopeError
from gpmt.masks import Masks
from gpmt.planning.assembly import assemble
from gpmt.planning.items import Item, items_of, named
from gpmt.planning.options import PlanOptions
from gpmt.planning.request import Request

Across = Literal["tensor", "network"]


class Exchange:
    """The blocks of a network, in or among which weights are exchanged.

    Attributes:
        found: the tensors, as they are.
        floors: how many weights each block keeps at least, by its name.

    Args:
        model: the network.
        options: scope, exclude, blocks, min_kept and allocation, as `gpmt.plan` takes them.

    Raises:
        ScopeError: a weight is reparametrised.

    >>> model = nn.Linear(3, 2)
    >>> with torch.no_grad():
    ...     _ = model.weight.copy_(torch.tensor([[3.0, 1.0, 2.0], [0.0, 0.0, 0.0]]))
    >>> growth = {"weight": torch.tensor([[9.0, 1.0, 9.0], [2.0, 4.0, 3.0]])}
    >>> Exchange(model).exchanged(Masks.of(model), growth, share=0.4)["weight"]
    tensor([[ True, False,  True],
            [False,  True, False]])
    """

    def __init__(self, model: nn.Module, **options: Unpack[PlanOptions]) -> None:
        self._request = Request([0], **options)
        self.found = self._request.find_scope(model)
        if self.found.effective:
            raise ScopeError(
                f"{next(iter(self.found.effective))} is reparametrised, and only plain weights are exchanged; "
                "exclude it, or make it plain"
            )
        items = self._items(self.found)
        sizes = [item.numel for item in items]
        minimums = Minimums.parse(self._request.min_kept, total=sum(sizes), unit="weights")
        floors = minimums.floors(named(items, self.found), sizes)
        self.floors = {item.name: floor for item, floor in zip(items, floors, strict=True)}

    def exchanged(
        self, masks: Masks, growth: Mapping[str, Tensor], *, share: float, across: Across = "tensor"
    ) -> Masks:
        """Return masks that keep as many weights, a share of them others.

        Of n kept weights, floor(share · n) are dropped, the smallest; then as many of all that are not kept, with
        those just dropped among them, are taken, those of the largest growth. Ties go to the first, in the order of
        the network.

        Args:
            masks: which weights are kept. Those of tensors that are not in scope or have no growth stay as they are.
            growth: what ranks the weights that are not kept, by the name of the tensor and in its shape; not NaN.
                Where processes share the tensors, all of them have to call this, and gather them one by one.
            share: how much of the kept weights is dropped, from 0 to 1.
            across: "tensor" exchanges within each block, which keeps its count; "network" among all blocks of these
                tensors, of which each keeps its floor.
        """
        stored = self._stored(masks)
        names = [name for name in self.found.tensors if name in growth and name in stored]
        changed: dict[str, Tensor] = {}
        for together in [names] if across == "network" and names else [[name] for name in names]:
            kept = {name: masks[stored[name]] for name in together}
            packed = self._exchange(kept, growth, share=share, across=across)
            changed |= {stored[name]: bits for name, bits in packed.items()}
        return Masks(
            {name: changed.get(name, masks.packed(name)) for name in masks},
            {name: masks.shape(name) for name in masks},
        )

    def kept(self, masks: Masks) -> dict[str, int]:
        """Return how many weights each block keeps, by its name, of the tensors that have masks."""
        found: dict[str, int] = {}
        for name, stored in self._stored(masks).items():  # one tensor at a time
            items = self._items(self._among([name]), {name: masks[stored]})
            found |= {item.name: int(item.values.sum()) for item in items}
        return found

    def check_floors(self, names: Iterable[str], *, total: int, share: float) -> None:
        """Raise `MethodError` where the floors of some blocks do not fit into what an exchange among them leaves.

        Args:
            names: the blocks.
            total: how many weights they keep.
            share: how much of these is dropped.
        """
        floors = {name: self.floors[name] for name in names}
        needed, dropped = sum(floors.values()), math.floor(share * total)
        if needed > total - dropped:
            most = max(floors, key=floors.__getitem__)
            raise MethodError(
                f"of {total:,} kept weights an update drops {dropped:,} before it grows others, but the minimums of "
                f"{len(floors)} blocks need {needed:,} of the {total - dropped:,} that are left (most: {most} "
                f'{floors[most]:,}); lower alpha or the minimums, or use across="tensor"'
            )

    def _exchange(
        self, kept: Mapping[str, Tensor], growth: Mapping[str, Tensor], *, share: float, across: Across
    ) -> dict[str, Tensor]:
        """Return the packed masks of some tensors, given the bool masks that they had."""
        found = self._among(list(kept))
        found = replace(found, tensors={name: whole(tensor) for name, tensor in found.tensors.items()})
        rising = {name: whole(growth[name].detach()) for name in kept}
        sizes = {
            name: torch.where(kept[name].to(tensor.device), tensor.detach().abs(), -math.inf)
            for name, tensor in found.tensors.items()
        }
        falling, items = self._items(found, sizes), self._items(found, rising)
        places = list(range(len(items)))
        packed: dict[str, Tensor] = {}
        for group in [places] if across == "network" else [[place] for place in places]:
            counts = [int((falling[place].values != -math.inf).sum()) for place in group]
            total = sum(counts)
            left = total - math.floor(share * total)
            floors = [0] * len(group)  # in a block of its own, what is dropped is made up for
            if across == "network":
                names = [items[place].name for place in group]
                self.check_floors(names, total=total, share=share)
                floors = [min(self.floors[name], count) for name, count in zip(names, counts, strict=True)]
            packed |= _regrown(
                [falling[place] for place in group], [items[place] for place in group], left, total, floors
            )
        return assemble(found, items, self._request.unit, packed)

    def _among(self, names: Sequence[str]) -> Scope:
        """Return the scope of some tensors only."""
        return replace(self.found, tensors={name: self.found.tensors[name] for name in names})

    def _items(self, found: Scope, values: Mapping[str, Tensor] | None = None) -> list[Item]:
        """Return the blocks, with their parts of the values."""
        return items_of(
            found,
            self._request.unit,
            least={},
            scores=values,
            whole=not self._request.method.blocks,
            read=values is not None,
        )

    def _stored(self, masks: Masks) -> dict[str, str]:
        """Return by what name the masks have each tensor in scope; those that they lack are left out."""
        names = {name: (name, *self.found.aliases.get(name, ())) for name in self.found.tensors}
        return {name: stored for name, known in names.items() for stored in known if stored in masks}


def _regrown(
    falling: Sequence[Item], rising: Sequence[Item], left: int, total: int, floors: Sequence[int]
) -> dict[str, Tensor]:
    """Return the packed bits of the blocks of one group: `left` of the first ranking, the rest of the other."""
    stay = _largest(falling, left, floors)
    items = []
    for item in rising:
        survives = torch.from_numpy(unpack(stay[item.name], item.numel)).view(torch.bool)
        values = item.values.masked_fill(survives.view(item.values.shape).to(item.values.device), math.inf)
        items.append(replace(item, values=values))
    return _largest(items, total, [0] * len(items))


def _largest(items: Sequence[Item], total: int, floors: Sequence[int]) -> dict[str, Tensor]:
    """Return the packed bits of the largest values of some blocks, exactly `total` of them."""
    key_format = score_format_of(item.values for item in items)
    sources = [ScoreKeys(item.name, item.values, key_format) for item in items]
    [selection] = select(sources, key_format, totals=[total], floors=floors)
    keys, ties = [cut.key for cut in selection.cuts], [cut.ties for cut in selection.cuts]
    packed = pack_keys(sources, key_format, keys=keys, ties=ties)
    return {item.name: one.bits for item, one in zip(items, packed, strict=True)}
