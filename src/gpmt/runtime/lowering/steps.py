"""What a network is made of when it runs: native steps and steps on PyTorch, and where their buffers lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from gpmt.runtime.ir.values import Value
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.lowering.candidates import Candidate

Layouts = Mapping[str, Planes]


@dataclass(frozen=True, eq=False)
class Native:
    """A step in native code.

    Attributes:
        label: what it is, for tables.
        places: for arguments that are pixel (0, 0) of a buffer, its name.
        tensors: for arguments that are the memory of a PyTorch tensor, its value's name.
        candidates: the kernels that can do it, once the layouts are known; the best guess first.
        name: the weights' name in the network.
        dense_macs, kept_macs: multiply-adds of the dense layer, and those with weights that are not zero.
        first_channel: channel of the output where it begins to write.
        from_channel: channel of the input where it begins to read.
    """

    label: str
    places: dict[str, str]
    tensors: dict[str, str]
    candidates: Callable[[Layouts], list[Candidate]]
    name: str = ""
    dense_macs: int = 0
    kept_macs: int = 0
    first_channel: int = 0
    from_channel: int = 0


@dataclass(frozen=True, eq=False)
class OnTorch:
    """A step in PyTorch: takes tensors, by their values' names, and makes the tensors of other values."""

    label: str
    reads: tuple[str, ...]
    makes: tuple[Value, ...]
    run: Callable[..., tuple[torch.Tensor, ...]]
    reason: str = ""

    @property
    def writes(self) -> tuple[str, ...]:
        """The names of the values that it makes."""
        return tuple(value.name for value in self.makes)


Step = Native | OnTorch


@dataclass
class Lowered:
    """A network as steps.

    Attributes:
        steps: in order.
        layouts: of every buffer, by name.
        tensors: shapes of the values that native steps write as PyTorch tensors.
    """

    steps: list[Step] = field(default_factory=list)
    layouts: dict[str, Planes] = field(default_factory=dict)
    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)
