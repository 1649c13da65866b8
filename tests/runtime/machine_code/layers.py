"""Straight-line code of layers, and its instructions."""

import numpy as np

from gpmt.runtime.ir.activation import RELU
from gpmt.runtime.machine_code.dialect import Ends
from gpmt.runtime.machine_code.straight_line import DIALECTS, emit

NAMES = {
    "avx512": {
        "multiply-add": "vfmadd231ps", "store": "vmovups", "add": "vaddps", "maximum": "vmaxps",
        "jump": "jne", "prefetch": "prefetcht1",
    },
    "neon": {
        "multiply-add": "fmla", "store": "str", "add": "fadd", "maximum": "fmax",
        "jump": "b", "prefetch": "prfm",
    },
}  # fmt: skip
"""Of instructions, by the kind of processor."""
PIXELS = {"avx512": ("vmovups", ("[rdi",)), "neon": ("ldr", ("[x12", "[x13", "[x14", "[x15"))}
"""What loads pixels: the instruction, and its address."""


def default_shape(kind):
    return DIALECTS[kind].shapes(crossing=False)[0]


def code_of(kind, weight, offsets, shape=None, activation=RELU, residual=None):
    bias = np.arange(len(weight), dtype=np.float32)
    ends = Ends(4096, residual, activation)
    return emit(DIALECTS[kind], weight, bias, offsets, ends, shape or default_shape(kind))


def instructions(kind, code):
    """Return the instructions of each block, up to the return, as (name, operands)."""
    import capstone

    x86 = capstone.CS_ARCH_X86, capstone.CS_MODE_64
    machine = capstone.Cs(*(x86 if kind == "avx512" else (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)))
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


def count_of(kind, block, name):
    return count(block, NAMES[kind][name])


def pixel_loads(kind, block):
    """Return the operands of all loads of pixels; before them, the code of AVX-512 has loads from elsewhere only."""
    load, bases = PIXELS[kind]
    return [o for name, o in block if name == load and any(f", {base}" in o or f"ptr {base}" in o for base in bases)
            and not o.startswith("zmmword")]  # fmt: skip
