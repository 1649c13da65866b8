"""Outputs that lost all their weights, and get them back where the network is made dense again.

From zero they would not come back well: behind such an output batch normalisation divides by nearly nothing, so that
its first gradients are hundreds of times too large, and its weights then the largest of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.core.layers.axes import Axes
from gpmt.core.shards import local, local_part, whole
from gpmt.masks import Masks


class LostOutputs:
    """Keeps the weights of outputs (rows, filters) that masks leave without any.

    >>> layer = nn.Linear(2, 2, bias=False)
    >>> masks, lost = Masks.from_dense({"weight": torch.tensor([[True, False], [False, False]])}), LostOutputs()
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    >>> lost.keep(layer, masks, {"weight": Axes()})
    >>> masks.apply_(layer)
    >>> lost.give_back(layer, masks, {"weight": Axes()})
    >>> layer.weight.tolist()
    [[1.0, 0.0], [3.0, 4.0]]
    """

    def __init__(self) -> None:
        # By tensor: which outputs, bool [layers, outputs], and their weights [outputs so marked, inputs, taps].
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def keep(self, model: nn.Module, masks: Masks, axes: Mapping[str, Axes]) -> None:
        """Keep the weights of the outputs that new masks leave without any, before these are applied.

        Of outputs that had lost theirs already, those stay that were kept then.
        """
        before, self._kept = self._kept, {}
        for name, how in axes.items():
            lost = _lost(masks, name, how)
            if lost is None:
                continue
            weight = model.get_parameter(name)
            values = whole(weight.detach())
            self._kept[name] = lost, how.arrange(values)[lost.to(values.device)].clone()
            if name in before:
                marked, old = before[name]
                both = marked & lost
                self._kept[name][1][both[lost].to(old.device)] = old[both[marked].to(old.device)]

    @torch.no_grad()
    def give_back(self, model: nn.Module, masks: Masks | None, axes: Mapping[str, Axes]) -> None:
        """Give the outputs that still have no weight under these masks what was kept of them, and forget it."""
        kept, self._kept = self._kept, {}
        for name, (marked, values) in kept.items():
            lost = None if masks is None or name not in axes else _lost(masks, name, axes[name])
            if lost is None:
                continue
            weight = model.get_parameter(name)
            part, both = local(weight), marked & lost
            full = torch.zeros(weight.shape, dtype=weight.dtype, device=part.device)
            back = values[both[marked].to(values.device)]
            axes[name].arrange(full)[both.to(full.device)] = back.to(full)
            part.add_(local_part(full, weight))  # they are zero now

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept, as tensors."""
        return {name: {"outputs": marked, "weights": values} for name, (marked, values) in self._kept.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with what `state_dict` returned."""
        self._kept = {name: (one["outputs"], one["weights"]) for name, one in state.items()}


def _lost(masks: Masks, name: str, axes: Axes) -> Tensor | None:
    """Return which outputs of a tensor have no weight, bool [layers, outputs]; None where each has some."""
    if name not in masks or not axes.told:
        return None
    lost = ~axes.arrange(masks[name]).flatten(2).any(2)
    return lost if bool(lost.any()) else None
