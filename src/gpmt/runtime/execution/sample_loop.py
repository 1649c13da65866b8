"""All steps of a network for some samples after others, on one thread with buffers of its own.

A *chunk* of samples goes through the network together, as `Schedule` says: the first steps are done for one sample
after the other; each item of the others for all samples of the chunk, so that an item's weights and code are in the
cache for all but the first.

Loops: next chunk (an atomic counter) → {
    samples → updates of arguments
    samples → first steps → items
    other steps → items → samples
}

    counter    int64 [1]: the first sample of the next chunk
    samples    integer: number of samples
    chunk      integer: samples of a chunk, at most as many as there are arguments for
    engines    int64 [items, 5]: address of the table of steps, number of first steps, of all steps, address of the
               updates, their number

    updates    int64 [n, 4]: address of a step's argument for the first sample of a chunk, bytes to that for the next
               one; the argument's value for sample 0, bytes from a sample to the next
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.runtime.codegen.emitter import I64, Emitter
from gpmt.runtime.codegen.kernel import KernelSpec
from gpmt.runtime.threads.driver import STEP_WORDS

ENGINE_FIELDS = 5
UPDATE_FIELDS = 4
_STEP_BYTES = 8 * STEP_WORDS


@dataclass(frozen=True)
class SampleLoopKernel(KernelSpec):
    """The kernel: item i takes chunks with engine i as long as there are any."""

    ARGS: ClassVar[tuple[str, ...]] = ("counter", "samples", "chunk", "engines")

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
        samples, chunk = e.arg("samples"), e.arg("chunk")
        table, alone, steps, updates, count = (
            e.load(e.add(e.arg("engines"), e.mul(e.item, 8 * ENGINE_FIELDS)), I64, 8 * i, align=8)
            for i in range(ENGINE_FIELDS)
        )
        middle, end = e.add(table, e.mul(alone, _STEP_BYTES)), e.add(table, e.mul(steps, _STEP_BYTES))
        following, body, after = (builder.append_basic_block(name) for name in ("next", "chunk", "done"))
        builder.branch(following)
        builder.position_at_end(following)
        first = builder.atomic_rmw("add", counter, chunk, "monotonic")
        builder.cbranch(builder.icmp_signed("<", first, samples), body, after)
        builder.position_at_end(body)
        members = e.minimum(chunk, builder.sub(samples, first))
        with e.loop(0, members) as member:
            sample = e.add(first, member)
            with e.loop(
                updates, e.add(updates, e.mul(count, 8 * UPDATE_FIELDS)), 8 * UPDATE_FIELDS
            ) as update:
                cell, apart, value, step = (e.load(update, I64, 8 * i, align=8) for i in range(UPDATE_FIELDS))
                address = e.add(cell, builder.mul(member, apart))
                e.store(e.add(value, builder.mul(sample, step)), address, align=8)
        with e.loop(0, members) as member, e.loop(table, middle, _STEP_BYTES) as step:
            call, items = _step(e, step)
            with e.loop(0, items) as item:
                call(item, member)
        with e.loop(middle, end, _STEP_BYTES) as step:
            call, items = _step(e, step)
            with e.loop(0, items) as item, e.loop(0, members) as member:
                call(item, member)
        builder.branch(following)
        builder.position_at_end(after)
        return e.text()


def _step(e: Emitter, row: ir.Value) -> tuple[Callable[[ir.Value, ir.Value], None], ir.Value]:
    """Return what calls a step of the table for an item and a member of the chunk, and the number of its items."""
    function, arguments, items, apart = (e.load(row, I64, 8 * i, align=8) for i in range(STEP_WORDS))
    pointer = e.pointer(function, ir.FunctionType(ir.VoidType(), [I64, I64]))

    def call(item: ir.Value, member: ir.Value) -> None:
        e.builder.call(pointer, [e.add(arguments, e.builder.mul(member, apart)), item])

    return call, items
