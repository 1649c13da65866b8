"""All steps of a network for one sample after the other, on one thread with buffers of its own.

Loops: next sample (an atomic counter) → updates of arguments, then one call that does all steps.

    counter    int64 [1]: the next sample, which threads count up
    samples    integer: number of samples
    engines    int64 [items, 4]: address of the table of steps, number of steps, address of the updates, their number
    run_alone  address of the function `gpmt_run_alone`

    updates    int64 [n, 3]: address of a step's argument, its value for sample 0, bytes from a sample to the next
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.runtime.codegen.emitter import I64, Emitter, constant
from gpmt.runtime.codegen.kernel import KernelSpec

ENGINE_FIELDS = 4
UPDATE_FIELDS = 3


@dataclass(frozen=True)
class SampleLoopKernel(KernelSpec):
    """The kernel: item i takes samples with engine i as long as there are any."""

    ARGS: ClassVar[tuple[str, ...]] = ("counter", "samples", "engines", "run_alone")

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
        samples = e.arg("samples")
        table, steps, updates, count = (
            e.load(e.add(e.arg("engines"), e.mul(e.item, 8 * ENGINE_FIELDS)), I64, 8 * i, align=8)
            for i in range(ENGINE_FIELDS)
        )
        kind = ir.FunctionType(ir.VoidType(), [I64, I64, I64])
        run_alone = e.pointer(e.arg("run_alone"), kind)
        following, body, after = (builder.append_basic_block(name) for name in ("next", "sample", "done"))
        builder.branch(following)
        builder.position_at_end(following)
        sample = builder.atomic_rmw("add", counter, constant(1), "monotonic")
        builder.cbranch(builder.icmp_signed("<", sample, samples), body, after)
        builder.position_at_end(body)
        with e.loop(updates, e.add(updates, e.mul(count, 8 * UPDATE_FIELDS)), 8 * UPDATE_FIELDS) as update:
            cell, first, step = (e.load(update, I64, 8 * i, align=8) for i in range(UPDATE_FIELDS))
            e.store(e.add(first, builder.mul(sample, step)), cell, align=8)
        builder.call(run_alone, [table, steps, constant(1)])
        builder.branch(following)
        builder.position_at_end(after)
        return e.text()
