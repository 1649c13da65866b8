"""Weights that are computed from other tensors: by weight_norm and spectral_norm, which pruning knows, and others.

Weight norm is w = g · v / ‖v‖ and spectral norm w = v / σ(v), so w is zero where v, the *direction*, is. Such weights
are ranked by w and pruned in v. A norm must not become zero: of each part of v that has one, the largest weight
stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpmt.core.keys.keys import KeyFormat, KeySource
from gpmt.core.shards import whole


@dataclass(frozen=True)
class Effective:
    """How a weight is computed from its direction.

    Attributes:
        magnitude: g of weight norm, with the shape of ‖v‖; None for spectral norm.
        vectors: u and v of spectral norm, which give σ; None for weight norm.
    """

    magnitude: Tensor | None
    vectors: tuple[Tensor, Tensor] | None

    @torch.no_grad()
    def weight(self, direction: Tensor) -> Tensor:
        """Return the weight of a (whole) direction, in float32 or float64; zero where the norm is zero.

        Norms are summed in float64 on the CPU, so that memory formats and devices do not show in the ranking.
        """
        wide = direction.detach().to(torch.promote_types(direction.dtype, torch.float32))
        exact = wide.to("cpu", torch.float64)
        if self.magnitude is not None:
            magnitude = whole(self.magnitude).to(exact)
            norm = torch.linalg.vector_norm(exact, dim=self._summed(exact), keepdim=True)
            scale = torch.where(norm > 0, magnitude.reshape(norm.shape) / norm, 0)
            return wide * scale.to(wide)
        sigma = self._sigma(exact)
        return wide / sigma if sigma else torch.zeros_like(wide)

    def norms(self, shape: torch.Size) -> int:
        """Return how many norms a direction of this shape has."""
        return 1 if self.magnitude is None else max(1, self.magnitude.numel())

    def largest(self, weight: Tensor) -> Tensor:
        """Return the flat positions, in order, of the largest weight of each part that has a norm of its own."""
        summed = self._summed(weight) if self.magnitude is not None else tuple(range(weight.ndim))
        kept = [dim for dim in range(weight.ndim) if dim not in summed]
        parts = weight.abs().permute(*kept, *summed).reshape(self.norms(weight.shape), -1)
        flat = (
            torch.arange(weight.numel(), device="cpu")
            .view(weight.shape)
            .permute(*kept, *summed)
            .reshape(parts.shape)
        )
        return flat.gather(1, parts.argmax(1, keepdim=True).cpu()).flatten().sort().values

    def _summed(self, weight: Tensor) -> tuple[int, ...]:
        """Return the dimensions that one norm is over: those in which the magnitude has one element."""
        assert self.magnitude is not None
        shape = self.magnitude.shape
        if len(shape) != weight.ndim or self.magnitude.numel() == 1:
            return tuple(range(weight.ndim))
        return tuple(dim for dim, size in enumerate(shape) if size == 1)

    def _sigma(self, direction: Tensor) -> float:
        """Return uᵀ W v; of the dimensions that fit u, the one it was found for gives the largest."""
        assert self.vectors is not None
        u, v = (whole(vector).to(direction) for vector in self.vectors)
        fitting = [dim for dim, size in enumerate(direction.shape) if size == u.numel()]
        matrices = (direction.movedim(dim, 0).reshape(u.numel(), -1) for dim in fitting)
        return max((float(u @ (matrix @ v)) for matrix in matrices), default=0.0)


_ENDS = ("_orig", "_g", "_v")


@dataclass(frozen=True)
class Part:
    """A stored tensor that a weight is computed from.

    Attributes:
        weight: the name of the weight.
        problem: why it cannot be pruned, where the way it is computed is not known.
        effective: how the weight is computed, where this part is the direction of a known way.
    """

    weight: str
    problem: str | None = None
    effective: Effective | None = None


def may_be_part(stored: str) -> bool:
    """Whether a tensor has a name as the parts of other tensors have; most do not."""
    return stored.endswith(_ENDS) or "parametrizations." in stored


def find_part(stored: str, tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module]) -> Part | None:
    """Return what weight a stored tensor is a part of; None for one that is a weight itself.

    Args:
        stored: its name.
        tensors: all parameters and buffers by name.
        modules: the modules by name; empty for a state_dict.
    """
    if not may_be_part(stored):
        return None
    functions = "torch.nn.utils"
    if match := re.fullmatch(r"(|.*\.)parametrizations\.([^.]+)\.original\d*", stored):
        layer, attribute = match[1], match[2]
        base = f"{layer}parametrizations.{attribute}."
        remedy = f"{functions}.parametrize.remove_parametrizations(layer, {attribute!r})"
        known = _one_known(base, modules)
        magnitude, direction = f"{base}original0", f"{base}original1"
        spectral = (f"{base}original", f"{base}0._u", f"{base}0._v")
    elif match := re.fullmatch(r"(|.*\.)([^.]+)_orig", stored):
        layer, attribute = match[1], match[2]
        known, magnitude, direction = True, "", ""
        spectral = (stored, f"{layer}{attribute}_u", f"{layer}{attribute}_v")
        norm = spectral[1] in tensors
        remedy = f"{functions}.{'remove_spectral_norm' if norm else 'prune.remove'}(layer, {attribute!r})"
    elif match := re.fullmatch(r"(|.*\.)([^.]+)_[gv]", stored):
        layer, attribute = match[1], match[2]
        known, spectral = True, ("", "", "")
        magnitude, direction = f"{layer}{attribute}_g", f"{layer}{attribute}_v"
        if not {magnitude, direction} <= tensors.keys():
            return None
        remedy = f"{functions}.remove_weight_norm(layer, {attribute!r})"
    else:
        return None
    weight = layer + attribute
    if known and _is_norm_of(tensors.get(magnitude), tensors.get(direction)):
        effective = Effective(tensors[magnitude], None)
        return Part(weight, effective=effective if stored == direction else None)
    if known and stored == spectral[0] and {*spectral} <= tensors.keys():
        return Part(weight, effective=Effective(None, (tensors[spectral[1]], tensors[spectral[2]])))
    where = f"layer {layer[:-1]!r}" if layer else "the model"
    return Part(
        weight,
        f"{attribute!r} of {where} is reparametrised (stored as {stored!r}); make it plain with {remedy}",
    )


def _one_known(base: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a parametrisation of a module is one of the two norms alone; of a file, the shapes tell."""
    if not modules:
        return True
    names = ("_WeightNorm", "_SpectralNorm")
    return f"{base}1" not in modules and type(modules.get(f"{base}0")).__name__ in names


def _is_norm_of(magnitude: Tensor | None, direction: Tensor | None) -> bool:
    """Whether a tensor has the shape of norms of another: one size of it, the others 1, or one element."""
    if magnitude is None or direction is None:
        return False
    sizes = list(magnitude.shape)
    if magnitude.numel() == 1:
        return True
    differing = [size for size, full in zip(sizes, direction.shape, strict=False) if size != full]
    return len(sizes) == direction.ndim and all(size == 1 for size in differing)


class KeysKeeping:
    """The keys of a tensor with some positions ranked above all others."""

    def __init__(self, source: KeySource, positions: Tensor, key_format: KeyFormat) -> None:
        self.name, self.numel, self.device = source.name, source.numel, source.device
        self._source, self._positions, self._largest = source, positions, key_format.upper - 1

    def chunks(self) -> Iterator[Tensor]:
        """Yield the chunks of the source, changed at the positions."""
        start = 0
        for keys in self._source.chunks():
            first, last = torch.searchsorted(
                self._positions, torch.tensor([start, start + len(keys)], device="cpu")
            ).tolist()
            if first < last:
                keys = keys.clone()
                keys[(self._positions[first:last] - start).to(keys.device)] = self._largest
            yield keys
            start += len(keys)
