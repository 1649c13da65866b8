"""All steps of a network for one sample after the other, on one thread with buffers of its own.

Loops: next sample (an atomic counter) → patches, then one call that does all steps.

    counter   int64 [1]: the next sample, which threads count up
    images    integer: number of samples
    replicas  int64 [items, 4]: address of the table of steps, number of steps, address of the patches, their number
    alone     address of the function `gpmt_run_alone`

    patches   int64 [n, 3]: address of a step's argument, its value for sample 0, bytes from a sample to the next
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
    """The kernel: item i takes samples with replica i as long as there are any."""

    ARGS: ClassVar[tuple[str, ...]] = ("counter", "images", "replicas", "alone")

    items: int = 1

    @property
    def code(self) -> SampleLoopKernel:
        """The parameters of the machine code, which has none."""
        return SampleLoopKernel()

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(1, self.ARGS)
        builder = e.builder
        counter = e.pointer(e.arg("counter"), I64)
        images = e.arg("images")
        table, steps, patches, count = (
            e.load(e.add(e.arg("replicas"), e.mul(e.item, 8 * REPLICA)), I64, 8 * i, align=8)
            for i in range(REPLICA)
        )
        kind = ir.FunctionType(ir.VoidType(), [I64, I64, I64])
        alone = e.pointer(e.arg("alone"), kind)
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
