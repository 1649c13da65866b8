"""Which buffers of activations can have the same memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.lowering.steps import NativeStep, Step


@dataclass
class SharedBuffers:
    """Where buffers are: several of them can be in one block of memory.

    Attributes:
        blocks: the planes that each block holds.
        block_of: the index of each buffer's block, by the buffer's name.
    """

    blocks: list[Planes] = field(default_factory=list)
    block_of: dict[str, int] = field(default_factory=dict)


def share_buffers(steps: Sequence[Step], planes: Mapping[str, Planes]) -> SharedBuffers:
    """Assign buffers to blocks of memory, so that no two buffers in use at the same time share one.

    Only buffers with equal planes share a block: their padding, which must stay zero, is then in the same places.

    Args:
        steps: in the order of execution.
        planes: of every buffer, by name.
    """
    last_use = {
        name: i
        for i, step in enumerate(steps)
        if isinstance(step, NativeStep)
        for name in step.buffers.values()
    }
    shared = SharedBuffers()
    unused: dict[Planes, list[int]] = {}
    for index, step in enumerate(steps):
        if not isinstance(step, NativeStep):
            continue
        names = sorted(set(step.buffers.values()))
        for name in names:
            if name not in shared.block_of:
                blocks = unused.get(planes[name])
                if blocks:
                    shared.block_of[name] = blocks.pop()
                else:
                    shared.block_of[name] = len(shared.blocks)
                    shared.blocks.append(planes[name])
        for name in names:
            if last_use[name] == index:
                unused.setdefault(planes[name], []).append(shared.block_of[name])
    return shared
