"""The network of stored weights, ready to run, and the way back from its tensors to those of the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.core.memory import identity
from gpmt.errors import CheckpointError
from gpmt.formats.hub_network import load_network, names_in

Places = dict[str, Tensor]
"""Name of a stored tensor -> where each of its weights is in the flat tensor of the network, int64, in its shape."""


class Runnable:
    """A network around stored tensors.

    Most of its tensors are stored as they are. Others are made of several stored ones when they are loaded (the
    experts of a layer are one tensor); for them every stored weight has a place.

    Attributes:
        network: the network, with the weights of `stored`.
        stored: the tensors of the file by name.
    """

    def __init__(
        self, network: nn.Module, stored: Mapping[str, Tensor], names: Mapping[str, str] | None = None
    ) -> None:
        self.network, self.stored = network, stored
        self._own = network.state_dict()
        self._names = {name: name for name in stored} if names is None else names
        self._as_they_are = {name for name, own in self._names.items() if _same(stored[name], self._own[own])}
        self._checked: set[str] = set()

    @classmethod
    def of_folder(cls, folder: Path, stored: Mapping[str, Tensor]) -> Runnable:
        """Return the network of a Hugging Face folder with these weights.

        Raises `CheckpointError` as `load_network`.
        """
        network = load_network(folder, stored)
        return cls(network, stored, names_in(network, stored))

    def own_names(self, names: Iterable[str]) -> list[str]:
        """Return the tensors of the network that hold stored ones, each once."""
        return list(dict.fromkeys(self._own_name(name) for name in names))

    def to_stored(self, values: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
        """Return values of the network's weights, such as scores, as values of stored tensors.

        Args:
            values: name in the network -> one value for each weight; tied tensors under one of their names.
            names: the stored tensors.
        """
        by_identity = {identity(self._own[name]): value for name, value in values.items()}
        found: dict[str, Tensor] = {}
        for own, members in self._members(names).items():
            value = by_identity[identity(self._own[own])]
            if (places := self._places(own, members)) is None:
                found |= dict.fromkeys(members, value)
            else:
                found |= {name: value.reshape(-1)[places[name]] for name in members}
        return {name: found[name] for name in names}

    def own_masks(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return masks of stored tensors as masks of the network's."""
        found: dict[str, Tensor] = {}
        for own, members in self._members(masks).items():
            if (places := self._places(own, members)) is None:
                found[own] = masks[members[0]]
            else:
                flat = torch.ones(self._own[own].numel(), dtype=torch.bool, device="cpu")
                for name in members:
                    flat[places[name]] = masks[name]
                found[own] = flat.view(self._own[own].shape)
        return found

    @torch.no_grad()
    def write_back(self, names: Iterable[str]) -> None:
        """Copy the network's weights into stored tensors, where these do not share memory."""
        for own, members in self._members(names).items():
            places = self._places(own, members)
            for name in members:
                tensor = self._own[own] if places is None else self._own[own].reshape(-1)[places[name]]
                if identity(tensor) != identity(self.stored[name]):
                    self.stored[name].copy_(tensor)

    def write_back_buffers(self) -> None:
        """Copy the network's buffers into the stored ones."""
        buffers = {name for name, _ in self.network.named_buffers()}
        self.write_back(name for name, own in self._names.items() if own in buffers)

    def _own_name(self, name: str) -> str:
        if name not in self._names:
            raise CheckpointError(
                f"{name} is not a tensor of {type(self.network).__name__}, so it cannot be scored; exclude it"
            )
        return self._names[name]

    def _members(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Return the stored tensors of each of the network's."""
        members: dict[str, list[str]] = {}
        for name in names:
            members.setdefault(self._own_name(name), []).append(name)
        return members

    def _places(self, own: str, members: list[str]) -> Places | None:
        """Return where stored weights are in a tensor of the network; None where it is stored as it is."""
        if self._as_they_are.issuperset(members):
            return None
        tensor = self._own[own]
        places = _reverted(self.network, own, tensor)
        for name in members if own not in self._checked else ():
            there = places.get(name)
            if there is None or not _same(self.stored[name], tensor.reshape(-1)[there]):
                raise CheckpointError(
                    f"{name} is changed when {type(self.network).__name__} is loaded (to {own}), in a way that "
                    "cannot be followed back to the file; exclude it"
                )
        self._checked.add(own)
        return places


def _same(stored: Tensor, tensor: Tensor) -> bool:
    """Tell whether the network has a stored tensor as it is, but for its dtype."""
    if stored.shape != tensor.shape:
        return False
    return identity(stored) == identity(tensor) or torch.equal(stored.to(tensor.dtype), tensor)


def _reverted(network: nn.Module, own: str, tensor: Tensor) -> Places:
    """Let transformers store the number of each weight in the place of the weight."""
    numbers = torch.arange(tensor.numel(), device="cpu").view(tensor.shape)
    with suppress(Exception):  # a part of transformers that changes between versions
        from transformers.core_model_loading import revert_weight_conversion

        reverted: Any = revert_weight_conversion(network, {own: numbers})
        return {name: places for name, places in reverted.items() if not places.is_floating_point()}
    return {}
