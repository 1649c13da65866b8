"""Masks: which weights of which tensors stay, by tensor name, one bit a weight."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gpmt.atomic import atomic_path
from gpmt.core.shards import cut, local
from gpmt.errors import MaskError
from gpmt.model_tools import unwrap
from gpmt.system import memory_limit

FORMAT = "gpmt-masks"
VERSION = 2

Target = nn.Module | Mapping[str, Tensor]


class Masks(Mapping[str, Tensor]):
    """An immutable mapping from tensor name to bool mask (True = kept), in the order of the network.

    Stored packed: bit i of a tensor, in flat (C) order, is at byte i // 8, bit i % 8. Masks know nothing of a
    module: they are matched to tensors by name and shape.

    >>> masks = Masks.from_dense({"fc.weight": torch.tensor([[True, False], [False, True]])})
    >>> masks.total_kept, masks.sparsity
    (2, 0.5)
    >>> state = {"fc.weight": torch.ones(2, 2)}
    >>> masks.apply_(state)
    >>> state["fc.weight"]
    tensor([[1., 0.],
            [0., 1.]])
    """

    def __init__(self, packed: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Take packed bits (uint8, [ceil(numel / 8)]) and shapes by name; see `from_dense` for bool masks.

        Raises `MaskError` where a length does not fit the shape, or a bit past the last weight is set.
        """
        if packed.keys() != shapes.keys():
            odd = min(packed.keys() ^ shapes.keys())
            raise MaskError(
                f"mask {odd} has bits but no shape, or a shape but no bits; the masks are damaged"
            )
        self._packed = {name: packed[name].detach().to("cpu", copy=False).contiguous() for name in shapes}
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self._kept = {name: self._count(name) for name in shapes}

    def _count(self, name: str) -> int:
        bits, numel = self._packed[name], math.prod(self._shapes[name])
        if bits.dtype != torch.uint8 or bits.shape != ((numel + 7) // 8,):
            raise MaskError(
                f"mask {name} has {bits.numel():,} bytes of {bits.dtype}, but its shape {list(self._shapes[name])} "
                f"needs {(numel + 7) // 8:,} of torch.uint8; the masks are damaged"
            )
        if numel % 8 and int(bits[-1]) >> numel % 8:
            raise MaskError(f"mask {name} has bits set past its {numel:,} weights; the masks are damaged")
        return int(np.bitwise_count(bits.numpy()).sum(dtype=np.int64))

    @classmethod
    def from_dense(cls, masks: Mapping[str, Tensor]) -> Masks:
        """Pack bool tensors, True = kept. Raises `MaskError` for another dtype."""
        packed = {}
        for name, mask in masks.items():
            if mask.dtype != torch.bool:
                raise MaskError(
                    f"mask {name} is {mask.dtype}, but must be torch.bool with True for kept weights"
                )
            flat = mask.detach().cpu().reshape(-1).numpy()
            packed[name] = torch.from_numpy(np.packbits(flat, bitorder="little"))
        return cls(packed, {name: tuple(mask.shape) for name, mask in masks.items()})

    def __getitem__(self, name: str) -> Tensor:
        """Unpack one mask: a new bool tensor on the CPU, of the weight's shape."""
        shape = self._shapes[name]
        bits = np.unpackbits(self._packed[name].numpy(), count=math.prod(shape), bitorder="little")
        return torch.from_numpy(bits).view(torch.bool).view(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def packed(self, name: str) -> Tensor:
        """Return the bits of one mask, uint8 [ceil(numel / 8)]; they are not to be written to."""
        return self._packed[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one masked tensor."""
        return self._shapes[name]

    def numel(self, name: str) -> int:
        """Return the number of weights of one tensor, kept and pruned."""
        return math.prod(self._shapes[name])

    def kept(self, name: str) -> int:
        """Return the number of weights that one tensor keeps."""
        return self._kept[name]

    @property
    def total_numel(self) -> int:
        """Number of weights under all masks."""
        return sum(map(math.prod, self._shapes.values()))

    @property
    def total_kept(self) -> int:
        """Number of weights kept."""
        return sum(self._kept.values())

    @property
    def total_pruned(self) -> int:
        """Number of weights pruned."""
        return self.total_numel - self.total_kept

    @property
    def sparsity(self) -> float:
        """Fraction of the weights under the masks that is pruned; 0.0 where there are none."""
        return self.total_pruned / self.total_numel if self.total_numel else 0.0

    def fits(self, target: Target) -> None:
        """Raise `MaskError`, naming the first, if a masked tensor is missing in `target` or has another shape."""
        self._tensors(target)

    def apply_(self, target: Target) -> None:
        """Set the pruned weights of a module or a mapping of tensors to +0.0, in place.

        Everything is checked before anything is changed. Of a tensor that several processes share (`DTensor`), each
        changes its part. Raises `MaskError` as `fits` does.
        """
        from gpmt.core import key_loops

        for name, tensor in self._tensors(target).items():
            with torch.no_grad():
                part = local(tensor)
                if part is tensor and tensor.device.type == "cpu" and tensor.is_contiguous():
                    if not tensor.is_inference():
                        torch.autograd.graph.increment_version(tensor)
                    key_loops.zero_pruned(tensor.detach().view(-1), self._packed[name].numpy())
                else:
                    part.masked_fill_(~cut(self[name], tensor).to(part.device), 0)

    def _tensors(self, target: Target) -> dict[str, Tensor]:
        if isinstance(target, nn.Module):
            available: Mapping[str, Tensor] = dict(unwrap(target).named_parameters(remove_duplicate=False))
        else:
            available = target
        found = {}
        for name, shape in self._shapes.items():
            if name not in available:
                raise MaskError(f"masked tensor {name} is missing; these masks belong to another network")
            if tuple(available[name].shape) != shape:
                raise MaskError(
                    f"{name} has shape {list(available[name].shape)}, but its mask has {list(shape)}; these masks "
                    "belong to another network"
                )
            found[name] = available[name]
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Masks):
            return NotImplemented
        return self._shapes == other._shapes and all(
            torch.equal(bits, other._packed[name]) for name, bits in self._packed.items()
        )

    __hash__ = None  # type: ignore[assignment]

    def __le__(self, other: Masks) -> bool:
        """Tell whether every weight kept here is kept in `other` too, over the same tensors."""
        return self._shapes == other._shapes and not any(
            bool((bits & ~other._packed[name]).any()) for name, bits in self._packed.items()
        )

    def __repr__(self) -> str:
        return (
            f"Masks({len(self)} tensors, {self.total_kept:,} of {self.total_numel:,} weights kept, "
            f"sparsity {self.sparsity:.4%})"
        )

    def structure(self) -> str:
        """Return the SHA-256 (hex) of the names and shapes: what the masks belong to.

        It does not cover the weights, because masks outlive them: training goes on under the same masks.
        """
        return hashlib.sha256(self._shapes_json().encode()).hexdigest()

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the names, shapes and bits: equal if and only if the masks are."""
        digest = hashlib.sha256(self._shapes_json().encode())
        for bits in self._packed.values():
            digest.update(bits.numpy().data)
        return digest.hexdigest()

    def _shapes_json(self) -> str:
        return json.dumps({name: list(shape) for name, shape in self._shapes.items()})

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values only, which ``torch.load(weights_only=True)`` reads back."""
        shapes = {name: list(shape) for name, shape in self._shapes.items()}
        return {"packed": dict(self._packed), "shapes": shapes}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Masks:
        """Rebuild masks from `state_dict`. Raises `MaskError` where it is damaged."""
        try:
            return cls(state["packed"], {name: tuple(shape) for name, shape in state["shapes"].items()})
        except (KeyError, TypeError, AttributeError) as error:
            raise MaskError(f"the saved masks are damaged ({error!r}); save them again") from None

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with the Rice-coded masks by name (docs/format.md), atomically."""
        from safetensors.torch import save_file

        from gpmt.formats.masks import rice

        codes = {name: rice.encode(bits.numpy(), self.numel(name)) for name, bits in self._packed.items()}
        entries = {
            name: {
                "shape": list(self._shapes[name]),
                "kept": code.kept,
                "parameter": code.parameter,
                "complement": code.complement,
            }
            for name, code in codes.items()
        }
        metadata = {
            "format": FORMAT,
            "version": str(VERSION),
            "masks": json.dumps(entries),
            "structure": self.structure(),
            "digest": self.digest(),
        }
        with atomic_path(path) as temporary:
            save_file(
                {n: torch.from_numpy(code.data) for n, code in codes.items()}, temporary, metadata=metadata
            )

    @classmethod
    def _decoded(cls, entries: Mapping[str, Any], coded: Mapping[str, Tensor]) -> Masks:
        """Build masks from what `save` writes; anything may be wrong with it."""
        from gpmt.formats.masks import rice

        packed, shapes, total = {}, {}, 0
        for name, entry in entries.items():
            data, shape, kept = coded[name], tuple(entry["shape"]), entry["kept"]
            sizes = (*shape, kept)
            if (
                data.dtype != torch.uint8
                or len(shape) > 64
                or not all(type(n) is int and n >= 0 for n in sizes)
            ):
                raise MaskError(f"the entry of mask {name} is not valid")
            total += math.prod(max(n, 1) for n in shape)
            if total > min(8 * memory_limit(), 1 << 62):
                raise MaskError(
                    f"the masks up to {name} claim {total:,} weights, too many for this machine's memory"
                )
            code = rice.RiceCode(
                math.prod(shape), kept, int(entry["parameter"]), bool(entry["complement"]), data.numpy()
            )
            packed[name], shapes[name] = torch.from_numpy(rice.decode(code)), shape
        return cls(packed, shapes)

    @classmethod
    def load(cls, path: str | Path, *, of: Target | None = None) -> Masks:
        """Read masks that `save` wrote; with `of`, check that they belong to that module or state_dict.

        Raises `MaskError` for a file that is missing, foreign, damaged or of another version, and for masks of
        another network.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise MaskError(f"{path}: no such file; give a mask file that gpmt wrote")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                coded = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise MaskError(
                f"{path} is not a readable safetensors file ({error}); save the masks again with gpmt, which reads "
                "no pickled ones"
            ) from None
        if metadata.get("format") != FORMAT:
            raise MaskError(
                f"{path} is a safetensors file but holds no gpmt masks; give a file that gpmt wrote"
            )
        if metadata.get("version") != str(VERSION):
            raise MaskError(
                f"{path} has mask format version {metadata.get('version')}, but this gpmt reads version {VERSION}; "
                "use the gpmt that wrote it"
            )
        try:
            masks = cls._decoded(json.loads(metadata["masks"]), coded)
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise MaskError(f"{path} is damaged ({error}); save the masks again") from None
        if masks.digest() != metadata.get("digest"):
            raise MaskError(f"{path} does not match its checksum; it is damaged, save the masks again")
        if of is not None:
            try:
                masks.fits(of)
            except MaskError as error:
                raise MaskError(f"{path}: {error}") from None
        return masks
