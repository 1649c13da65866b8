"""A whole table of steps for one image after the other: what a thread does that has a network of its own.

args     address of the counter of images, images, address of the replicas, address of `gpmt_run_alone`
replicas int64 [items, 4]: table, its steps, address of the patches, how many they are
patches  int64 [n, 3]: cell of the steps' arguments, address for image 0, bytes from an image to the next
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.runtime.codegen.emitter import I64, Emitter, constant

REPLICA = 4
PATCH = 3


@dataclass(frozen=True)
class SampleLoopKernel:
    """The kernel: item i works with replica i, and takes the next image as long as there are any."""

    ARGS: ClassVar[tuple[str, ...]] = ("counter", "images", "replicas", "alone")

    items: int = 1

    @property
    def code(self) -> SampleLoopKernel:
        """What the machine code depends on: nothing."""
        return SampleLoopKernel()

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(1)
        builder = e.builder
        counter = e.pointer(e.arg(0), I64)
        images = e.arg(1)
        table, steps, patches, count = (
            e.load(e.add(e.arg(2), e.mul(e.item, 8 * REPLICA)), I64, 8 * i, align=8) for i in range(REPLICA)
        )
        kind = ir.FunctionType(ir.VoidType(), [I64, I64, I64])
        alone = e.pointer(e.arg(3), kind)
        following, body, after = (builder.append_basic_block(name) for name in ("next", "image", "done"))
        builder.branch(following)
        builder.position_at_end(following)
        image = builder.atomic_rmw("add", counter, constant(1), "monotonic")
        builder.cbranch(builder.icmp_signed("<", image, images), body, after)
        builder.position_at_end(body)
        with e.loop(patches, e.add(patches, e.mul(count, 8 * PATCH)), 8 * PATCH) as patch:
            cell, first, step = (e.load(patch, I64, 8 * i, align=8) for i in range(PATCH))
            e.store(e.add(first, builder.mul(image, step)), cell, align=8)
        builder.call(alone, [table, steps, constant(1)])
        builder.branch(following)
        builder.position_at_end(after)
        return e.text()
