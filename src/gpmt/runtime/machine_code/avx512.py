"""The bytes of the few AVX-512 instructions that straight-line kernels are made of.

Every function returns one instruction. Vector registers are numbers from 0 to 31, all of 512 bits; mask registers are
numbers from 1 to 7; general registers are members of `Register`. Source: Intel 64 and IA-32 Architectures Software
Developer's Manual, volume 2, sections 2.1 (legacy prefixes), 2.3 (VEX) and 2.7 (EVEX).
"""

from __future__ import annotations

from enum import IntEnum

LANES = 16
VECTOR_BYTES = 64
FLOAT_BYTES = 4


class Register(IntEnum):
    """General registers that a function need not preserve."""

    RAX = 0
    RCX = 1
    RDX = 2
    RSI = 6
    RDI = 7
    R8 = 8
    R9 = 9
    R10 = 10
    R11 = 11


# Fields of the EVEX prefix: opcode maps 0F, 0F 38 and 0F 3A, and the mandatory prefix 66.
_0F, _0F38, _0F3A = 1, 2, 3
_NONE, _66 = 0, 1


def load(target: int, base: Register, displacement: int, *, wide: bool = False) -> bytes:
    """Load a vector: vmovups target, [base + displacement].

    >>> load(3, Register.RDI, 64).hex(" ")
    '62 f1 7c 48 10 5f 01'
    """
    return _with_memory(_0F, _NONE, 0x10, target, 0, base, displacement, VECTOR_BYTES, wide=wide)


def store(source: int, base: Register, displacement: int, *, wide: bool = False) -> bytes:
    """Store a vector: vmovups [base + displacement], source."""
    return _with_memory(_0F, _NONE, 0x11, source, 0, base, displacement, VECTOR_BYTES, wide=wide)


def broadcast(target: int, base: Register, displacement: int, *, wide: bool = False) -> bytes:
    """Load one float into all elements: vbroadcastss target, [base + displacement]."""
    return _with_memory(_0F38, _66, 0x18, target, 0, base, displacement, FLOAT_BYTES, wide=wide)


def multiply_add(total: int, factor: int, base: Register, displacement: int, *, wide: bool = False) -> bytes:
    """Add factor times one float of memory: vfmadd231ps total, factor, [base + displacement]{1to16}."""
    return _with_memory(
        _0F38, _66, 0xB8, total, factor, base, displacement, FLOAT_BYTES, wide=wide, embedded=True
    )


def add(total: int, base: Register, displacement: int, *, wide: bool = False) -> bytes:
    """Add a vector of memory: vaddps total, total, [base + displacement]."""
    return _with_memory(_0F, _NONE, 0x58, total, total, base, displacement, VECTOR_BYTES, wide=wide)


def maximum(target: int, bound: int, value: int) -> bytes:
    """Take the larger elements, the value where one is NaN: vmaxps target, bound, value."""
    return _with_register(_0F, _NONE, 0x5F, target, bound, value)


def minimum(target: int, bound: int, value: int) -> bytes:
    """Take the smaller elements, the value where one is NaN: vminps target, bound, value."""
    return _with_register(_0F, _NONE, 0x5D, target, bound, value)


def select(target: int, source: int, mask: int) -> bytes:
    """Copy elements whose bit is set in a mask register, with zeros elsewhere: vmovaps target{mask}{z}, source."""
    return _with_register(_0F, _NONE, 0x28, target, 0, source, mask=mask)


def clear(target: int) -> bytes:
    """Set a vector to zeros: vpxord target, target, target."""
    return _with_register(_0F, _66, 0xEF, target, target, target)


def align(target: int, high: int, low: int, elements: int) -> bytes:
    """Take 16 elements from number `elements` on of two vectors in a row: valignd target, high, low, elements."""
    return _with_register(_0F3A, _66, 0x03, target, high, low) + bytes([elements])


def load_mask(mask: int, base: Register, displacement: int) -> bytes:
    """Load 16 bits into a mask register: kmovw mask, [base + displacement]."""
    prefix = [0xC5, 0xF8] if base < 8 else [0xC4, 0xC1, 0x78]
    return bytes([*prefix, 0x90]) + _address(mask, base, displacement, 1, wide=False)


def prefetch(base: Register, displacement: int, *, wide: bool = False) -> bytes:
    """Fetch a cache line into the L2 cache: prefetcht1 [base + displacement]."""
    prefix = bytes([0x41] if base >= 8 else [])
    return prefix + bytes([0x0F, 0x18]) + _address(2, base, displacement, 1, wide=wide)


def load_address(target: Register, base: Register, displacement: int) -> bytes:
    """Compute an address: lea target, [base + displacement]."""
    rex = 0x48 | (target >= 8) << 2 | (base >= 8)
    return bytes([rex, 0x8D]) + _address(target & 7, base, displacement, 1, wide=False)


def load_stack(target: Register, displacement: int) -> bytes:
    """Load 64 bits above the return address: mov target, [rsp + displacement], with at most 127 bytes between."""
    return bytes([0x48 | (target >= 8) << 2, 0x8B, 0x44 | (target & 7) << 3, 0x24, displacement])


def increase(target: Register, number: int) -> bytes:
    """Add a number of 32 bits to 64 bits: add target, number."""
    return bytes([0x48 | (target >= 8), 0x81, 0xC0 | (target & 7)]) + number.to_bytes(
        4, "little", signed=True
    )


def decrease_by_one(target: Register) -> bytes:
    """Subtract 1 and tell whether the result is zero: dec target."""
    return bytes([0x48 | (target >= 8), 0xFF, 0xC8 | (target & 7)])


def jump_if_not_zero(distance: int) -> bytes:
    """Jump, by a distance from the end of this instruction, unless the last result was zero: jnz."""
    return bytes([0x0F, 0x85]) + distance.to_bytes(4, "little", signed=True)


def leave() -> bytes:
    """Return to the caller with clean upper halves of vector registers: vzeroupper; ret."""
    return bytes([0xC5, 0xF8, 0x77, 0xC3])


def _with_memory(
    opcode_map: int, prefix: int, opcode: int, register: int, other: int, base: Register, displacement: int,
    unit: int, *, wide: bool, embedded: bool = False,
) -> bytes:  # fmt: skip
    """Return an EVEX instruction with an operand in memory.

    Args:
        opcode_map, prefix, opcode: of the instruction.
        register, other: the vector registers beside the memory; 0 for an `other` that it has not.
        base, displacement: the address, in bytes.
        unit: bytes that short displacements are counted in.
        wide: whether to take 4 bytes for the displacement even if it is short, so that all take as many.
        embedded: whether one float of memory is broadcast.
    """
    head = _evex(opcode_map, prefix, register, other, base >> 3, 0, embedded=embedded)
    return head + bytes([opcode]) + _address(register & 7, base, displacement, unit, wide=wide)


def _with_register(
    opcode_map: int, prefix: int, opcode: int, target: int, other: int, source: int, *, mask: int = 0
) -> bytes:
    """Return an EVEX instruction between vector registers; with a mask, elements without a bit become zero."""
    head = _evex(opcode_map, prefix, target, other, source >> 3, source >> 4, mask=mask)
    return head + bytes([opcode, 0xC0 | (target & 7) << 3 | (source & 7)])


def _evex(
    opcode_map: int, prefix: int, register: int, other: int, b: int, x: int, *, embedded: bool = False,
    mask: int = 0,
) -> bytes:  # fmt: skip
    """Return the prefix for 512 bits; `b` and `x` extend the register of the last operand."""
    # Bits that extend register numbers are stored inverted.
    r, r_high, v_high = register >> 3 & 1, register >> 4, other >> 4
    return bytes(
        [
            0x62,
            (1 - r) << 7 | (1 - (x & 1)) << 6 | (1 - (b & 1)) << 5 | (1 - r_high) << 4 | opcode_map,
            (~other & 15) << 3 | 4 | prefix,
            (mask > 0) << 7 | 2 << 5 | embedded << 4 | (1 - v_high) << 3 | mask,
        ]
    )


def _address(field: int, base: Register, displacement: int, unit: int, *, wide: bool) -> bytes:
    """Return ModRM byte and displacement: one byte, counted in units, where that is enough."""
    count, rest = divmod(displacement, unit)
    if not wide and not rest and -128 <= count <= 127:
        return bytes([0x40 | field << 3 | (base & 7)]) + count.to_bytes(1, "little", signed=True)
    return bytes([0x80 | field << 3 | (base & 7)]) + displacement.to_bytes(4, "little", signed=True)
