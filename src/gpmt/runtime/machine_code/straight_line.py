"""Straight-line code for a sparse convolution: the pattern of the weights is in the code.

The filters of a *group* have one accumulator each, a register with 16 pixels. For every tap that any filter of the
group uses, the code loads 16 pixels once, and multiplies them by each weight of the tap that is not zero:

    vmovups      zmm29, [rdi + offset of the tap]
    vfmadd231ps  zmm4,  zmm29, dword [rax + 4 · i]{1to16}
    vfmadd231ps  zmm17, zmm29, dword [rax + 4 · (i + 1)]{1to16}
    ...

There are no offsets to load, no loops over weights and so no mispredicted ends, and no partial sums. A *block* is the
code of one group and one *pass* over a part of the taps; a later pass goes on from the sums in the output. A block is
a function (System V calling convention) with a loop over vectors of pixels:

    rdi  address of the first vector's pixels in the input; rsi, rdx: the same in output and residual, first filter
    rcx  address of the first vector's mask, 16 bits each: which pixels are no padding
    r8   address of the block's constants: biases of the group, bounds of the activation, weights in the code's order
    r9   number of vectors, at least 1
    [rsp + 8]  address of what is prefetched, in equal parts at every vector: the next block

A tap whose offset is not a multiple of 64 bytes can be read in two ways: by a load that crosses cache lines, or
*aligned*, from two lines that are loaded once and joined by `valignd`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import round_up
from gpmt.runtime.ir.activation import Activation
from gpmt.runtime.machine_code import avx512
from gpmt.runtime.machine_code.avx512 import FLOAT_BYTES, LANES, VECTOR_BYTES, Register
from gpmt.runtime.machine_code.instruction_stream import (
    BOUNDS,
    INPUT,
    INSTRUCTION_BYTES,
    LOADS,
    NEXT,
    PAGE_BYTES,
    WEIGHTS,
    Groups,
    Shape,
    Stream,
    write_stream,
)

_OUTPUT, _RESIDUAL, _MASK = Register.RSI, Register.RDX, Register.RCX
_CONSTANTS, _COUNT = Register.R8, Register.R9


@dataclass(frozen=True, eq=False)
class StraightLineCode:
    """The code and the weights of a layer.

    Attributes:
        data: uint8, position-independent: each block's code, then its constants.
        blocks: int64 [passes, groups, 3]: offsets in `data` of a block's code and of its constants, and its bytes.
        loads: of pixels, by all blocks for one vector.
    """

    data: NDArray[np.uint8]
    blocks: NDArray[np.int64]
    loads: int


def emit(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    offsets: NDArray[np.int64],
    *,
    output_stride: int,
    residual_stride: int | None,
    activation: Activation,
    shape: Shape,
) -> StraightLineCode:
    """Return the code of a convolution or a linear layer.

    Args:
        weight: float32 [filters, taps].
        bias: float32 [filters].
        offsets: int64 [taps], bytes from the output's pixel to the input's.
        output_stride, residual_stride: bytes from a filter's plane to the next; None without a residual.
        activation: none or a clamp.
        shape: of the code.
    """
    assert activation.kind in ("none", "clamp")
    groups = Groups.of(weight, shape)
    stream = Stream.of(groups, offsets, shape)
    heads: list[bytes] = []
    feet: list[bytes] = []
    for number in range(shape.passes):
        for group in range(groups.count):
            members = range(groups.first(group), groups.first(group + 1))
            heads.append(_head(members, output_stride, first=number == 0))
            last, prefetches = number == shape.passes - 1, int(stream.prefetches[len(feet)])
            foot = _foot(
                members, output_stride, residual_stride, activation, last=last, prefetches=prefetches
            )
            feet.append(foot)
    return _assemble(groups, stream, heads, feet, bias, activation, shape)


def _head(members: range, output_stride: int, *, first: bool) -> bytes:
    """Return what comes before the multiply-adds of a vector: the accumulators begin with biases or earlier sums."""
    code = [avx512.load_mask(1, _MASK, 0), avx512.load_address(WEIGHTS, _CONSTANTS, PAGE_BYTES // 2)]
    for accumulator, filter_ in enumerate(members):
        if first:
            code.append(avx512.broadcast(accumulator, WEIGHTS, FLOAT_BYTES * accumulator - PAGE_BYTES // 2))
        else:
            code.append(avx512.load(accumulator, _OUTPUT, filter_ * output_stride))
    return b"".join(code)


def _foot(
    members: range,
    output_stride: int,
    residual_stride: int | None,
    activation: Activation,
    *,
    last: bool,
    prefetches: int,
) -> bytes:
    """Return what comes after the multiply-adds of a vector, up to the jump back."""
    code = []
    registers = range(len(members))
    spare = len(members)
    if last:
        if residual_stride is not None:
            code += [
                avx512.add(a, _RESIDUAL, f * residual_stride) for a, f in zip(registers, members, strict=True)
            ]
        bounds = [(activation.low, avx512.maximum), (activation.high, avx512.minimum)]
        for index, (bound, limit) in enumerate(bounds):
            if activation.kind == "clamp" and np.isfinite(bound):
                code.append(
                    avx512.broadcast(spare, _CONSTANTS, FLOAT_BYTES * (len(members) + index))
                    if bound
                    else avx512.clear(spare)
                )
                code += [limit(a, spare, a) for a in registers]
        code += [avx512.select(a, a, 1) for a in registers]
    code += [avx512.store(a, _OUTPUT, f * output_stride) for a, f in zip(registers, members, strict=True)]
    moved = (INPUT, _OUTPUT) if residual_stride is None else (INPUT, _OUTPUT, _RESIDUAL)
    code += [avx512.increase(pointer, VECTOR_BYTES) for pointer in moved]
    code.append(avx512.increase(_MASK, LANES // 8))
    if prefetches:
        code.append(avx512.increase(NEXT, VECTOR_BYTES * prefetches))
    code.append(avx512.decrease_by_one(_COUNT))
    return b"".join(code)


_JUMP_BYTES = len(avx512.jump_if_not_zero(0))
_ENTRY = avx512.load_stack(NEXT, 8)


def _assemble(
    groups: Groups,
    stream: Stream,
    heads: Sequence[bytes],
    feet: Sequence[bytes],
    bias: NDArray[np.float32],
    activation: Activation,
    shape: Shape,
) -> StraightLineCode:
    """Put heads, multiply-adds, feet and constants of all blocks where they belong."""
    blocks = len(heads)
    sizes = stream.needed * INSTRUCTION_BYTES
    body = np.bincount(groups.block, sizes.sum(1), blocks).astype(np.int64)
    head_bytes = np.array([len(head) for head in heads])
    tail = [len(foot) + _JUMP_BYTES + len(avx512.leave()) for foot in feet]
    code_bytes = [
        round_up(len(_ENTRY) + int(head) + int(inner) + end, VECTOR_BYTES)
        for head, inner, end in zip(head_bytes, body, tail, strict=True)
    ]
    constants = groups.constants(blocks)
    constant_bytes = [
        round_up(FLOAT_BYTES * int(c + w), VECTOR_BYTES)
        for c, w in zip(constants, stream.weights, strict=True)
    ]
    block_bytes = np.array(code_bytes, np.int64) + np.array(constant_bytes, np.int64)
    starts = np.cumsum(block_bytes) - block_bytes
    constant_starts = starts + np.array(code_bytes, np.int64)
    data = np.zeros(int(block_bytes.sum()), np.uint8)
    for b in range(blocks):
        start = int(starts[b])
        begin = start + len(_ENTRY)
        data[start:begin] = np.frombuffer(_ENTRY, np.uint8)
        foot_at = begin + len(heads[b]) + int(body[b])
        jump_end = foot_at + len(feet[b]) + _JUMP_BYTES
        end = feet[b] + avx512.jump_if_not_zero(begin - jump_end) + avx512.leave()
        data[begin : begin + len(heads[b])] = np.frombuffer(heads[b], np.uint8)
        data[foot_at : foot_at + len(end)] = np.frombuffer(end, np.uint8)
    floats = data.view(np.float32)
    for b in range(blocks):
        at = int(constant_starts[b]) // FLOAT_BYTES
        group = b % groups.count
        size = groups.size(group)
        floats[at : at + size] = bias[groups.first(group) : groups.first(group + 1)]
        floats[at + size : at + size + BOUNDS] = activation.low, activation.high
    index = np.arange(len(groups.block)) - stream.first[groups.block]
    floats[constant_starts[groups.block] // FLOAT_BYTES + constants[groups.block] + index] = groups.value
    # Where each instruction is: the sizes before it in its block, after the block's head.
    before = np.cumsum(sizes.ravel()).reshape(sizes.shape) - sizes
    block_start = np.zeros(blocks, np.int64)
    filled = stream.weights > 0
    block_start[filled] = before[stream.first[filled], 0]
    at = before + (starts + len(_ENTRY) + head_bytes - block_start)[groups.block][:, None]
    write_stream(data, groups, stream, at, aligned=shape.aligned)
    table = np.stack([starts, constant_starts, block_bytes], 1).reshape(shape.passes, groups.count, 3)
    loads = int(stream.needed[:, LOADS].sum())
    return StraightLineCode(data, table, loads)
