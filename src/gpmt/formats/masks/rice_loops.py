"""The loops of `rice`, from bits to gaps to Rice codes and back; compiled on first use and cached on disk.

Bits are numbered from the lowest of each byte on. What is read is untrusted: a reader never leaves its arrays,
and returns the number of the first block that is not a valid code, or -1.
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


@_jit
def _load_some(data, byte):  # type: ignore[no-untyped-def]
    """Load eight bytes from `byte` on, zeros past the end."""
    if byte + 8 <= data.size:
        return _load_word(data, byte)
    word = np.uint64(0)
    for i in range(data.size - byte):
        word |= np.uint64(data[byte + i]) << np.uint64(8 * i)
    return word


@_jit
def _read_long_gap(data, bit, end, parameter):  # type: ignore[no-untyped-def]
    """Read one gap, and the bit after it, from a code of any length; a gap of -1 where it runs out of bits."""
    zeros = 0
    while bit < end:
        word = _load_some(data, bit >> 3) >> np.uint64(bit & 7)
        if word:
            run = np.int64(_trailing_zeros(word))
            bit += run + 1
            word = _load_some(data, bit >> 3) >> np.uint64(bit & 7)
            low = np.int64(word & ((np.uint64(1) << np.uint64(parameter)) - np.uint64(1)))
            return (zeros + run) << parameter | low, bit + parameter
        zeros += 64 - (bit & 7)
        bit += 64 - (bit & 7)
    return -1, bit


@_jit
def _read_block(data, start, stop, size, parameter, positions):  # type: ignore[no-untyped-def]
    """Fill `positions` with those that the block in the bytes `start` to `stop` codes; False where it is invalid.

    A word of 57 to 64 bits is held, which lasts for several codes: the chain of loads would take longer than all the
    arithmetic. Only intrinsics take an array here, since a call of any other kind counts references at every turn.
    """
    bit, end = 8 * start, 8 * stop
    shift, low = np.uint64(parameter), (np.uint64(1) << np.uint64(parameter)) - np.uint64(1)
    word, held, position = np.uint64(0), 0, np.int64(-1)
    for i in range(positions.size):
        run = np.int64(_trailing_zeros(word))
        if run + 1 + parameter > held:
            byte = bit >> 3
            word = _load_word(data, byte) if byte + 8 <= data.size else _load_some(data, byte)
            word >>= np.uint64(bit & 7)
            held = 64 - (bit & 7)
            run = np.int64(_trailing_zeros(word))
        if run + 1 + parameter > held:
            gap, bit = _read_long_gap(data, bit, end, parameter)
            if gap < 0:
                return False
            word, held = np.uint64(0), 0
        else:
            word = word >> np.uint64(run) >> np.uint64(1)
            gap = run << parameter | np.int64(word & low)
            word >>= shift
            held -= run + 1 + parameter
            bit += run + 1 + parameter
        position += 1 + gap
        positions[i] = position
    if position >= size or (bit + 7) >> 3 != stop:  # the last is the largest
        return False
    return bit == end or data[bit >> 3] >> (bit & 7) == 0


@_jit
def scatter(data, starts, coded, parameter, complement, values, out):  # type: ignore[no-untyped-def]
    """Write kept values and zeros, see `rice.scatter`; `out` and `values` start with the first of these blocks."""
    scratch = np.empty(BLOCK, np.uint16)
    first_value = 0
    for block in range(coded.size):
        weights = out[block * BLOCK : (block + 1) * BLOCK]
        positions = scratch[: coded[block]]
        if not _read_block(data, starts[block], starts[block + 1], weights.size, parameter, positions):
            return block
        kept = weights.size - positions.size if complement else positions.size
        if kept > values.size - first_value:
            return block
        chosen = values[first_value : first_value + kept]
        first_value += kept
        if not complement:
            weights[:] = 0
            for i in range(positions.size):
                weights[positions[i]] = chosen[i]
        else:
            written = np.int64(0)
            for i in range(positions.size):
                stop = np.int64(positions[i])
                for j in range(written, stop):
                    weights[j] = chosen[j - i]
                weights[stop] = 0
                written = stop + 1
            for j in range(written, weights.size):
                weights[j] = chosen[j - positions.size]
    return -1


@_jit
def read_bits(data, starts, coded, numel, parameter, complement, packed):  # type: ignore[no-untyped-def]
    """Set the bits of the kept weights in `packed`, which holds zeros; see `rice.decode`."""
    scratch = np.empty(BLOCK, np.uint16)
    flip = np.uint8(255 if complement else 0)
    for block in range(coded.size):
        size = min(BLOCK, numel - block * BLOCK)
        positions = scratch[: coded[block]]
        if not _read_block(data, starts[block], starts[block + 1], size, parameter, positions):
            return block
        bits = packed[block * (BLOCK >> 3) :][: (size + 7) >> 3]
        for i in range(positions.size):
            bits[positions[i] >> 3] |= np.uint8(1 << (positions[i] & 7))
        for byte in range(bits.size):
            bits[byte] ^= flip
    if complement and numel & 7:
        packed[numel >> 3] &= np.uint8((1 << (numel & 7)) - 1)
    return -1


@_inline
def _coded_bits(packed, base, size, word, complement):  # type: ignore[no-untyped-def]
    """Return the `word`-th 64 bits of a block, those of pruned weights where `complement`."""
    byte = (base >> 3) + 8 * word
    bits = _load_word(packed, byte) if byte + 8 <= packed.size else _load_some(packed, byte)
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
def gather(packed, weights, kept):  # type: ignore[no-untyped-def]
    """Copy the weights whose bit is set in `packed`, which starts with the first of them, to `kept`."""
    count = 0
    for word in range((weights.size + 63) >> 6):
        bits = _coded_bits(packed, 0, weights.size, word, False)
        while bits:
            kept[count] = weights[64 * word + np.int64(_trailing_zeros(bits))]
            count += 1
            bits &= bits - np.uint64(1)
    return count
