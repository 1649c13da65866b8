"""The bytes of the few instructions of aarch64 that straight-line kernels for NEON are made of.

Every function returns one instruction, 4 bytes. Vector registers are numbers from 0 to 31, of four floats; general
registers are numbers from 0 to 30, all of 64 bits, and `SP`. Source: Arm Architecture Reference Manual for A-profile
architecture, chapters C6.2 and C7.2.
"""

from __future__ import annotations

LANES = 4
VECTOR_BYTES = 16
FLOAT_BYTES = 4

SP = 31
"""The stack pointer, in additions of constants and as a base."""


def load(target: int, base: int, displacement: int) -> bytes:
    """Load a vector, at a multiple of 16 bytes below 65536 from an address: ldr target, [base, #displacement].

    >>> load(3, 12, 64).hex(" ")
    '83 11 c0 3d'
    """
    return _word(0x3DC00000 | _scaled(displacement, VECTOR_BYTES) << 10 | base << 5 | target)


def store(source: int, base: int, displacement: int) -> bytes:
    """Store a vector, as `load` loads it: str source, [base, #displacement]."""
    return _word(0x3D800000 | _scaled(displacement, VECTOR_BYTES) << 10 | base << 5 | source)


def multiply_add(total: int, factor: int, weights: int, element: int) -> bytes:
    """Add a vector times one element of another: fmla total.4s, factor.4s, weights.s[element]."""
    return _word(0x4F801000 | (element & 1) << 21 | weights << 16 | element >> 1 << 11 | factor << 5 | total)


def broadcast(target: int, source: int, element: int) -> bytes:
    """Copy one element to all: dup target.4s, source.s[element]."""
    return _word(0x4E040400 | element << 19 | source << 5 | target)


def add(target: int, left: int, right: int) -> bytes:
    """Add vectors: fadd target.4s, left.4s, right.4s."""
    return _word(0x4E20D400 | right << 16 | left << 5 | target)


def maximum(target: int, left: int, right: int) -> bytes:
    """Take the larger elements, NaN where one is NaN: fmax target.4s, left.4s, right.4s."""
    return _word(0x4E20F400 | right << 16 | left << 5 | target)


def minimum(target: int, left: int, right: int) -> bytes:
    """Take the smaller elements, NaN where one is NaN: fmin target.4s, left.4s, right.4s."""
    return _word(0x4EA0F400 | right << 16 | left << 5 | target)


def both_bits(target: int, left: int, right: int) -> bytes:
    """Keep the bits that both vectors have: and target.16b, left.16b, right.16b."""
    return _word(0x4E201C00 | right << 16 | left << 5 | target)


def store_halves(one: int, other: int, base: int, displacement: int) -> bytes:
    """Store the lower halves of two vectors: stp one, other, [base, #displacement]; a multiple of 8, -512 to 504."""
    return _word(0x6D000000 | (displacement // 8 & 0x7F) << 15 | other << 10 | base << 5 | one)


def load_halves(one: int, other: int, base: int, displacement: int) -> bytes:
    """Load the lower halves of two vectors: ldp one, other, [base, #displacement]."""
    return _word(0x6D400000 | (displacement // 8 & 0x7F) << 15 | other << 10 | base << 5 | one)


def prefetch(base: int, displacement: int) -> bytes:
    """Fetch a cache line into the L2 cache: prfm pldl2keep, [base, #displacement], a multiple of 8 below 32768."""
    return _word(0xF9800002 | _scaled(displacement, 8) << 10 | base << 5)


def increase(target: int, source: int, number: int) -> bytes:
    """Add a number below 4096, or a multiple of 4096 below 2^24: add target, source, #number."""
    shifted = number >= 4096
    assert 0 <= number < 1 << 24
    assert not shifted or number % 4096 == 0
    return _word(
        0x91000000 | shifted << 22 | (number >> 12 if shifted else number) << 10 | source << 5 | target
    )


def decrease(target: int, source: int, number: int) -> bytes:
    """Subtract a number below 4096: sub target, source, #number."""
    assert 0 <= number < 4096
    return _word(0xD1000000 | number << 10 | source << 5 | target)


def add_shifted(target: int, left: int, right: int, shift: int) -> bytes:
    """Add a register shifted to the left: add target, left, right, lsl #shift."""
    return _word(0x8B000000 | right << 16 | shift << 10 | left << 5 | target)


def set_number(target: int, number: int) -> bytes:
    """Set a register to a number from -65536 to 65535: movz, or movn if it is negative."""
    assert -1 << 16 <= number < 1 << 16
    return _word((0xD2800000 | number << 5 if number >= 0 else 0x92800000 | ~number << 5) | target)


def set_upper(target: int, number: int) -> bytes:
    """Set bits 16 to 31 of a register, and leave the others: movk target, #number, lsl #16."""
    return _word(0xF2A00000 | number << 5 | target)


def jump_if_zero(register: int, distance: int) -> bytes:
    """Jump from this instruction by a distance below 1 MiB if a register is zero: cbz."""
    return _word(0xB4000000 | (distance // 4 & 0x7FFFF) << 5 | register)


def jump(distance: int) -> bytes:
    """Jump from this instruction by a distance of at most 128 MiB: b."""
    return _word(0x14000000 | distance // 4 & 0x3FFFFFF)


def leave() -> bytes:
    """Return to the caller: ret."""
    return _word(0xD65F03C0)


def _scaled(displacement: int, unit: int) -> int:
    """Return a displacement in units."""
    count, rest = divmod(displacement, unit)
    assert not rest
    assert 0 <= count < 4096
    return count


def _word(bits: int) -> bytes:
    return bits.to_bytes(4, "little")
