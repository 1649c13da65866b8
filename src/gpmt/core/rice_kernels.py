"""The loops of `rice`: bits to gaps to Rice codes, and back, compiled on first use and cached on disk.

Bits are numbered from the lowest of each byte on. What is read is untrusted: a reader never leaves its arrays,
and returns the number of the first block that is no valid code, or -1.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

BLOCK = 1 << 16
MAX_PARAMETER = 16

_jit = numba.njit(nogil=True, cache=True)
_inline = numba.njit(nogil=True, inline="always")


@intrinsic  # type: ignore[untyped-decorator]
def _trailing_zeros(context: Any, word: Any) -> Any:
    """Count the zeros below the lowest one of a uint64, 64 if there is none: one instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(numba.types.boolean, False))

    return numba.types.uint64(numba.types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _load_word(context: Any, data: Any, byte: Any) -> Any:
    """Load eight bytes of a contiguous uint8 array, from any address, as a little-endian uint64; unchecked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        word = ir.IntType(64)
        address = builder.bitcast(builder.gep(array.data, [arguments[1]]), word.as_pointer())
        return builder.load(address, align=1)

    return numba.types.uint64(data, numba.types.int64), generate


@_inline
def _load(data, byte):  # type: ignore[no-untyped-def]
    """Load eight bytes from `byte` on, zeros past the end."""
    if byte + 8 <= data.size:
        return _load_word(data, byte)
    word = np.uint64(0)
    for i in range(data.size - byte):
        word |= np.uint64(data[byte + i]) << np.uint64(8 * i)
    return word


@_inline
def _window(data, bit):  # type: ignore[no-untyped-def]
    """Return the bits from `bit` on, 57 to 64 of them, and how many they are."""
    return _load(data, bit >> 3) >> np.uint64(bit & 7), 64 - (bit & 7)


@_inline
def _read_gap(data, bit, end, parameter, word, held):  # type: ignore[no-untyped-def]
    """Return the gap whose code starts at `bit`, the bit after it, and what is held of the bits from there on.

    A word of 57 to 64 bits lasts for several codes: the chain of loads, not the arithmetic, would be the time it
    takes. The gap is -1 where the code runs out of bits.
    """
    run = np.int64(_trailing_zeros(word))
    if run + 1 + parameter > held:
        word, held = _window(data, bit)
        run = np.int64(_trailing_zeros(word))
    if run + 1 + parameter <= held:
        word = word >> np.uint64(run) >> np.uint64(1)
        gap = run << parameter | np.int64(word & ((np.uint64(1) << np.uint64(parameter)) - np.uint64(1)))
        used = run + 1 + parameter
        return gap, bit + used, word >> np.uint64(parameter), held - used
    gap, bit = _read_long_gap(data, bit, end, parameter)
    return gap, bit, np.uint64(0), 0


@_jit
def _read_long_gap(data, bit, end, parameter):  # type: ignore[no-untyped-def]
    """Read one gap, and the bit after it, from a code of any length; a gap of -1 where it runs out of bits."""
    zeros = 0
    while bit < end:
        word, held = _window(data, bit)
        if word:
            run = np.int64(_trailing_zeros(word))
            word, _ = _window(data, bit + run + 1)
            low = np.int64(word & ((np.uint64(1) << np.uint64(parameter)) - np.uint64(1)))
            return (zeros + run) << parameter | low, bit + run + 1 + parameter
        zeros += held
        bit += held
    return -1, bit


@_inline
def _ends_well(data, bit, end):  # type: ignore[no-untyped-def]
    """Tell whether a block that was read up to `bit` ends at `end`, with nothing but zeros in its last byte."""
    if (bit + 7) >> 3 != end >> 3:
        return False
    return bit == end or data[bit >> 3] >> (bit & 7) == 0


@_jit
def place(data, starts, coded, parameter, complement, values, out):  # type: ignore[no-untyped-def]
    """Write kept values and zeros, see `rice.place`; `out` and `values` start with the first of these blocks."""
    next_value = 0
    for block in range(coded.size):
        base = block * BLOCK
        size = min(BLOCK, out.size - base)
        bit, end = 8 * starts[block], 8 * starts[block + 1]
        position, word, held = -1, np.uint64(0), 0
        if not complement:
            if coded[block] > values.size - next_value:
                return block
            out[base : base + size] = 0
            for _ in range(coded[block]):
                gap, bit, word, held = _read_gap(data, bit, end, parameter, word, held)
                position += 1 + gap
                if gap < 0 or position >= size:
                    return block
                out[base + position] = values[next_value]
                next_value += 1
        else:
            if size - coded[block] > values.size - next_value:
                return block
            written = 0
            for _ in range(coded[block]):
                gap, bit, word, held = _read_gap(data, bit, end, parameter, word, held)
                position += 1 + gap
                if gap < 0 or position >= size:
                    return block
                for i in range(written, position):
                    out[base + i] = values[next_value + i - written]
                next_value += position - written
                out[base + position] = 0
                written = position + 1
            for i in range(written, size):
                out[base + i] = values[next_value + i - written]
            next_value += size - written
        if not _ends_well(data, bit, end):
            return block
    return -1


@_jit
def read_bits(data, starts, coded, numel, parameter, complement, packed):  # type: ignore[no-untyped-def]
    """Set the bits of the kept weights in `packed`, which holds zeros; see `rice.decode`."""
    flip = np.uint8(255 if complement else 0)
    for block in range(coded.size):
        base = block * BLOCK
        size = min(BLOCK, numel - base)
        bit, end = 8 * starts[block], 8 * starts[block + 1]
        position, word, held = -1, np.uint64(0), 0
        first, last = base >> 3, (base + size + 7) >> 3
        for _ in range(coded[block]):
            gap, bit, word, held = _read_gap(data, bit, end, parameter, word, held)
            position += 1 + gap
            if gap < 0 or position >= size:
                return block
            packed[first + (position >> 3)] |= np.uint8(1 << (position & 7))
        if not _ends_well(data, bit, end):
            return block
        for byte in range(first, last):
            packed[byte] ^= flip
    if complement and numel & 7:
        packed[numel >> 3] &= np.uint8((1 << (numel & 7)) - 1)
    return -1


@_inline
def _coded_bits(packed, base, size, word, complement):  # type: ignore[no-untyped-def]
    """Return the `word`-th 64 bits of a block, those of pruned weights where `complement`."""
    bits = _load(packed, (base >> 3) + 8 * word)
    if complement:
        bits = ~bits
    left = size - 64 * word
    if left < 64:
        bits &= (np.uint64(1) << np.uint64(left)) - np.uint64(1)
    return bits


@_jit
def measure(packed, numel, complement, coded, costs):  # type: ignore[no-untyped-def]
    """Count a block's positions to code [blocks], and the bits they take with each parameter [blocks, 17]."""
    for block in range(coded.size):
        base = block * BLOCK
        size = min(BLOCK, numel - base)
        previous = np.int64(-1)
        count = 0
        for word in range((size + 63) >> 6):
            bits = _coded_bits(packed, base, size, word, complement)
            while bits:
                position = 64 * word + np.int64(_trailing_zeros(bits))
                bits &= bits - np.uint64(1)
                gap = position - previous - 1
                previous = position
                count += 1
                for parameter in range(MAX_PARAMETER + 1):
                    costs[block, parameter] += gap >> parameter
        coded[block] = count
        for parameter in range(MAX_PARAMETER + 1):
            costs[block, parameter] += count * (1 + parameter)


@_jit
def write(packed, numel, complement, parameter, starts, data):  # type: ignore[no-untyped-def]
    """Write the code of every block from its byte in `starts` on; `data` holds zeros there."""
    low = (np.int64(1) << parameter) - 1
    for block in range(starts.size):
        base = block * BLOCK
        size = min(BLOCK, numel - base)
        previous = np.int64(-1)
        bit = 8 * starts[block]
        for word in range((size + 63) >> 6):
            bits = _coded_bits(packed, base, size, word, complement)
            while bits:
                position = 64 * word + np.int64(_trailing_zeros(bits))
                bits &= bits - np.uint64(1)
                gap = position - previous - 1
                previous = position
                bit += gap >> parameter
                code = np.uint64(1 | (gap & low) << 1) << np.uint64(bit & 7)
                byte = bit >> 3
                bit += 1 + parameter
                while code:
                    data[byte] |= np.uint8(code & np.uint64(255))
                    code >>= np.uint64(8)
                    byte += 1


@_jit
def take(packed, weights, kept):  # type: ignore[no-untyped-def]
    """Copy the weights whose bit is set in `packed`, which starts with the first of them, to `kept`."""
    count = 0
    for word in range((weights.size + 63) >> 6):
        bits = _coded_bits(packed, 0, weights.size, word, False)
        while bits:
            kept[count] = weights[64 * word + np.int64(_trailing_zeros(bits))]
            count += 1
            bits &= bits - np.uint64(1)
    return count
