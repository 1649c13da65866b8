"""Masks: which weights of which tensors are kept, by tensor name, one bit per weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpmt.core.keys.packed_bits import complement, pack, pack_nonzero, unpack
from gpmt.core.missing_data import check_has_data
from gpmt.core.patterns import Patterns
from gpmt.core.scope.scope import find_scope
from gpmt.core.shards import local, local_part
from gpmt.errors import MaskError
from gpmt.formats.masks.hashes import mask_hash, structure_hash
from gpmt.formats.masks.summary import summary
from gpmt.html_tables import Share, html_table
from gpmt.model_tools import not_a_network, plain_name, unwrap
from gpmt.torch_private import is_traceable_wrapper_subclass

Target = nn.Module | Mapping[str, Tensor]


class Masks(Mapping[str, Tensor]):
    """An immutable mapping from tensor name to bool mask (True = kept), in the order of the network.

    Stored packed: bit i of a tensor, in flat (C) order, is at byte i // 8, bit i % 8. Masks know nothing of a
    module: they are matched to tensors by name and shape.

    As sets of kept weights, masks over the same tensors combine: ``a & b`` keeps what both keep, ``a | b`` what
    either does, ``a - b`` what only `a` does, and ``~a`` what `a` prunes; ``a <= b`` tells whether `b` keeps all that
    `a` does. Names are in the order of the left one. A tensor that only one of the two has, or has in another shape,
    is a `MaskError`, because nobody has said what of it is kept.

    >>> masks = Masks.from_dense({"fc.weight": torch.tensor([[True, False], [False, True]])})
    >>> masks.total_kept, masks.sparsity
    (2, 0.5)
    >>> state = {"fc.weight": torch.ones(2, 2)}
    >>> masks.apply_(state)
    >>> state["fc.weight"]
    tensor([[1., 0.],
            [0., 1.]])
    >>> (~masks).total_kept, (masks | ~masks).sparsity, masks <= Masks.of({"fc.weight": torch.eye(2)})
    (2, 0.0, True)
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
    def from_dense(cls, masks: Mapping[str, Tensor | NDArray[np.bool_]]) -> Masks:
        """Pack bool tensors or arrays of NumPy, True = kept, in any memory format.

        Raises `MaskError` for another type, and for tensors without data.

        >>> Masks.from_dense({"fc.weight": np.eye(3, dtype=bool)}).total_kept
        3
        """
        check_has_data({name: mask for name, mask in masks.items() if isinstance(mask, Tensor)}, MaskError)
        packed = {name: pack(name, mask) for name, mask in masks.items()}
        return cls(packed, {name: tuple(mask.shape) for name, mask in masks.items()})

    @classmethod
    def of(cls, target: Target, *, scope: Patterns | None = None, exclude: Patterns | None = ()) -> Masks:
        """Return which weights of a network are not zero; NaN counts as one, −0.0 does not.

        Args:
            target: a module or a state_dict; where several processes share its tensors (`DTensor`), all have to call
                this, and each gathers them one by one.
            scope: patterns of the tensors to look at; by default every prunable one, as `gpmt.find_scope` finds them.
            exclude: patterns of the tensors to leave out.

        Raises `ScopeError` as `gpmt.find_scope` does, and `WeightsError` for tensors without data.

        >>> Masks.of({"fc.weight": torch.tensor([[0.0, 1.0, -2.0]])})
        Masks(1 tensors, 2 of 3 weights kept, sparsity 33.3333%)
        """
        found = find_scope(target, scope=scope, exclude=() if exclude is None else exclude, shared=True)
        packed = {name: pack_nonzero(name, tensor) for name, tensor in found.tensors.items()}
        return cls(packed, {name: tuple(tensor.shape) for name, tensor in found.tensors.items()})

    def __getitem__(self, name: str) -> Tensor:
        """Unpack one mask: a new bool tensor on the CPU, of the weight's shape."""
        shape = self._shapes[name]
        return torch.from_numpy(unpack(self._packed[name], math.prod(shape))).view(torch.bool).view(shape)

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
        self._found(target)

    def named_as(self, target: Target) -> Masks:
        """Return these masks under the names that their tensors have in `target`, which may be wrapped.

        Raises `MaskError` as `fits` does, and where two masks are for one name.
        """
        names = {name: found for name, (found, _) in self._found(target).items()}
        if all(name == found for name, found in names.items()):
            return self
        owners: dict[str, str] = {}
        for name, found in names.items():
            if (other := owners.setdefault(found, name)) != name:
                raise MaskError(f"{other} and {name} are both masks of {found}; leave one of them out")
        packed = {names[name]: bits for name, bits in self._packed.items()}
        return Masks(packed, {names[name]: shape for name, shape in self._shapes.items()})

    def apply_(self, target: Target) -> None:
        """Set the pruned weights of a module or a mapping of tensors to +0.0, in place.

        Everything is checked before anything is changed. Of a tensor that several processes share (`DTensor`), each
        changes its part. Names match with and without what `torch.compile` and `DistributedDataParallel` put into
        them (``_orig_mod.``, ``module.``). Raises `MaskError` as `fits` does and for quantised and sparse
        tensors, and `WeightsError` for a tensor without data.
        """
        from gpmt.core.keys import key_loops

        tensors = {name: tensor for name, (_, tensor) in self._found(target).items()}
        check_has_data(tensors)
        for name, tensor in tensors.items():
            if tensor.layout != torch.strided:
                raise MaskError(
                    f"{name} has layout {tensor.layout}, but must be dense; convert it with to_dense()"
                )
            if is_traceable_wrapper_subclass(local(tensor)):
                raise MaskError(
                    f"{name} is of the class {type(local(tensor)).__name__}, which does not hold its values as they "
                    "are; apply masks before quantising"
                )
        for name, tensor in tensors.items():
            with torch.no_grad():
                part = local(tensor)
                if part is tensor and tensor.device.type == "cpu" and tensor.is_contiguous():
                    if not tensor.is_inference():
                        torch.autograd.graph.increment_version(tensor)
                    key_loops.zero_pruned(tensor.detach().view(-1), self._packed[name].numpy())
                else:
                    pruned = ~local_part(self[name], tensor).to(part.device)
                    # Tensors made in inference mode can be written to only in that mode.
                    with torch.inference_mode() if part.is_inference() else nullcontext():
                        part.masked_fill_(pruned, 0)

    def _found(self, target: Target) -> dict[str, tuple[str, Tensor]]:
        """Return the name and the tensor in `target` for each mask."""
        if isinstance(target, nn.Module):
            available: Mapping[str, Tensor] = dict(unwrap(target).named_parameters(remove_duplicate=False))
        elif isinstance(target, Mapping):
            available = target
        else:
            raise MaskError(not_a_network(target))
        found, plain = {}, {}
        if not self._shapes.keys() <= available.keys():
            plain = {plain_name(name): name for name, value in available.items() if isinstance(value, Tensor)}
        for name, shape in self._shapes.items():
            there = name if name in available else plain.get(plain_name(name))
            tensor = None if there is None else available[there]
            if there is None or tensor is None:
                raise MaskError(f"masked tensor {name} is missing; these masks belong to another network")
            if nn.parameter.is_lazy(tensor):
                raise MaskError(
                    f"{name} is not initialised yet; call the model once on an input to give it its shape"
                )
            if tuple(tensor.shape) != shape:
                raise MaskError(
                    f"{name} has shape {list(tensor.shape)}, but its mask has {list(shape)}; these masks "
                    "belong to another network"
                )
            found[name] = there, tensor
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Masks):
            return NotImplemented
        return self._shapes == other._shapes and all(
            torch.equal(bits, other._packed[name]) for name, bits in self._packed.items()
        )

    __hash__ = None  # type: ignore[assignment]

    def __and__(self, other: Masks) -> Masks:
        return self._combined(other, torch.bitwise_and)

    def __or__(self, other: Masks) -> Masks:
        return self._combined(other, torch.bitwise_or)

    def __sub__(self, other: Masks) -> Masks:
        return self._combined(other, lambda mine, its: mine & ~its)

    def __invert__(self) -> Masks:
        packed = {name: complement(bits, self.numel(name)) for name, bits in self._packed.items()}
        return Masks(packed, self._shapes)

    def __le__(self, other: Masks) -> bool:
        """Tell whether every weight kept here is kept in `other` too."""
        if not isinstance(other, Masks):
            return NotImplemented
        self._check_same_tensors(other)
        return not any(bool((bits & ~other._packed[name]).any()) for name, bits in self._packed.items())

    def __lt__(self, other: Masks) -> bool:
        """Tell whether `other` keeps every weight kept here, and more."""
        if not isinstance(other, Masks):
            return NotImplemented
        return self <= other and self.total_kept < other.total_kept

    def _combined(self, other: Masks, operation: Callable[[Tensor, Tensor], Tensor]) -> Masks:
        if not isinstance(other, Masks):
            return NotImplemented
        self._check_same_tensors(other)
        packed = {name: operation(bits, other._packed[name]) for name, bits in self._packed.items()}
        return Masks(packed, self._shapes)

    def _check_same_tensors(self, other: Masks) -> None:
        for name in (*self._shapes, *other._shapes):
            if name not in self._shapes or name not in other._shapes:
                raise MaskError(
                    f"only one of the two has a mask of {name}, but masks combine over the same tensors; leave it "
                    "out there, or give the other one a mask that keeps all of it or nothing"
                )
            if self._shapes[name] != other._shapes[name]:
                raise MaskError(
                    f"{name} has shape {list(self._shapes[name])} in one of the two masks and "
                    f"{list(other._shapes[name])} in the other; these masks belong to different networks"
                )

    def __repr__(self) -> str:
        return summary(len(self), self.total_kept, self.total_numel)

    def _repr_html_(self) -> str:
        rows = [
            [
                name,
                "×".join(map(str, self.shape(name))),
                self.numel(name),
                self.kept(name),
                Share(self.kept(name) / max(self.numel(name), 1)),
            ]
            for name in self
        ]
        kept, numel = self.total_kept, self.total_numel
        return html_table(
            ["tensor", "shape", "weights", "kept", "density"],
            rows,
            title=f"masks of {len(self):,} tensors: {self.total_pruned:,} of {numel:,} weights pruned",
            total=["total", "", numel, kept, Share(kept / max(numel, 1))],
        )

    def structure(self) -> str:
        """Return the SHA-256 (hex) of the names and shapes, whatever their order: what the masks belong to.

        It does not cover the weights, because masks outlive them: training goes on under the same masks.
        """
        return structure_hash(dict(sorted(self._shapes.items())))

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the names, shapes and bits: equal if and only if the masks are.

        So the order of the names does not count here; in the checksum inside a file it does.
        """
        return mask_hash(dict(sorted(self._shapes.items())), self._arrays())

    def _arrays(self) -> dict[str, NDArray[np.uint8]]:
        return {name: bits.numpy() for name, bits in self._packed.items()}

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
        from gpmt.formats.masks.mask_file import write_mask_file

        write_mask_file(path, self._arrays(), self._shapes)

    @classmethod
    def load(cls, path: str | Path, *, of: Target | None = None) -> Masks:
        """Read masks that `save` wrote; with `of`, check that they belong to that module or state_dict.

        Raises `MaskError` for a file that is missing, foreign, damaged or of another version, and for masks of
        another network.
        """
        from gpmt.formats.masks.mask_file import read_mask_file

        packed, shapes = read_mask_file(path)
        masks = cls({name: torch.from_numpy(bits) for name, bits in packed.items()}, shapes)
        if of is not None:
            try:
                masks.fits(of)
            except MaskError as error:
                raise MaskError(f"{path}: {error}") from None
        return masks
