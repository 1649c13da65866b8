"""Straight-line code of layers, and its instructions."""

import numpy as np

from gpmt.runtime.ir.activation import RELU
from gpmt.runtime.machine_code.instruction_stream import Shape
from gpmt.runtime.machine_code.straight_line import emit


def code_of(weight, offsets, shape=None, activation=RELU, residual=None):
    filters = len(weight)
    return emit(
        weight, np.arange(filters, dtype=np.float32), offsets,
        output_stride=4096, residual_stride=residual, activation=activation, shape=shape or Shape(),
    )  # fmt: skip


def instructions(code):
    """Return the instructions of each block, up to the return, as (name, operands)."""
    import capstone

    machine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    blocks = []
    for start, constants, _ in code.blocks.reshape(-1, 3):
        found = [row[2:] for row in machine.disasm_lite(code.data[start:constants].tobytes(), 0)]
        blocks.append(found[: [name for name, _ in found].index("ret") + 1])
    return blocks


def drawn(filters, taps, density, seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((filters, taps)).astype(np.float32)
    return weight * (rng.random(weight.shape) < density)


def count(block, name):
    return sum(name == each for each, _ in block)
