"""Loops over keys on the CPU, sixty-four keys at a time, compiled on first use and cached on disk.

One comparison of a block of 64 keys gives 64 bits, one integer. Counting is then a count of bits, the mask of a
block is the integer itself, and the few keys that are collected are found bit by bit. The comparisons are vector
instructions of LLVM's portable language, so each processor uses the widest that it has.

Arrays of keys are given by address and length, many in one call, so that a network of thousands of small tensors
costs no call for each. `element` is the integer type in memory; a narrower one than the keys (bfloat16) has the
leading bits of the key. `sign` is 0 for magnitudes, and -1 where the sign counts. The loops release the GIL.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from gpmt.core.keys.pool_loops import select_largest

BLOCK = 64
AHEAD, LINE = 4096, 64
"""How far ahead memory is fetched, and the bytes fetched at once; a processor by itself stops at a page's end."""
ELEMENTS: dict[int, Any] = {1: np.int8(0), 2: np.int16(0), 4: np.int32(0), 8: np.int64(0)}
"""A zero of the integer type of each size in bytes."""


def zero_pruned(weights: Tensor, packed: NDArray[np.uint8]) -> None:
    """Set to +0.0, in place, the weights of a contiguous 1-D CPU tensor whose bit in `packed` is clear."""
    _zero_pruned(weights.data_ptr(), len(weights), ELEMENTS[weights.element_size()], packed)


_jit = numba.njit(nogil=True, cache=True)
_inline = numba.njit(nogil=True, inline="always")


def _vector(type_: Any) -> ir.VectorType:
    return ir.VectorType(ir.IntType(type_.bitwidth), BLOCK)


def _repeat(builder: Any, value: Any) -> Any:
    """Fill a vector of 64 with one value."""
    vector, places = ir.VectorType(value.type, BLOCK), ir.VectorType(ir.IntType(32), BLOCK)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), ir.Constant(places, [0] * BLOCK))


def _load(builder: Any, address: Any, type_: ir.Type) -> Any:
    """Load a scalar or a vector from any address."""
    return builder.load(builder.inttoptr(address, type_.as_pointer()), align=1)


def _keys(builder: Any, bits: Any, sign: Any, element: Any, key: Any) -> Any:
    """Turn the bits of floats, a vector, into their keys: the magnitude, negated where the sign is set and counts."""
    vector, width = _vector(key), key.bitwidth
    if element.bitwidth < width:
        shift = ir.Constant(vector, [width - element.bitwidth] * BLOCK)
        bits = builder.shl(builder.zext(bits, vector), shift)
    magnitude = builder.and_(bits, ir.Constant(vector, [(1 << (width - 1)) - 1] * BLOCK))
    negative = builder.ashr(bits, ir.Constant(vector, [width - 1] * BLOCK))
    negative = builder.and_(negative, _repeat(builder, sign))
    return builder.sub(builder.xor(magnitude, negative), negative)


def _comparison(how: str) -> Any:
    """Return an intrinsic that compares the 64 keys at an address with one key: a bit for each that fulfils it."""

    @intrinsic  # type: ignore[untyped-decorator]
    def compare(context: Any, address: Any, element: Any, sign: Any, key: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address, _, sign, limit = arguments
            bits = _load(builder, address, _vector(element))
            found = builder.icmp_signed(
                how, _keys(builder, bits, sign, element, key), _repeat(builder, limit)
            )
            return builder.bitcast(found, ir.IntType(BLOCK))

        return types.uint64(types.int64, element, key, key), generate

    return compare


_at_least, _above, _equal = _comparison(">="), _comparison(">"), _comparison("==")


@intrinsic  # type: ignore[untyped-decorator]
def _key_at(context: Any, address: Any, element: Any, sign: Any) -> Any:
    """Return the key at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, _, sign = arguments
        narrow, wide = ir.IntType(element.bitwidth), ir.IntType(key.bitwidth)
        bits = _load(builder, address, narrow)
        if narrow.width < wide.width:
            bits = builder.shl(builder.zext(bits, wide), ir.Constant(wide, wide.width - narrow.width))
        magnitude = builder.and_(bits, ir.Constant(wide, (1 << (wide.width - 1)) - 1))
        negative = builder.and_(builder.ashr(bits, ir.Constant(wide, wide.width - 1)), sign)
        return builder.sub(builder.xor(magnitude, negative), negative)

    key = sign
    return key(types.int64, element, key), generate


@intrinsic  # type: ignore[untyped-decorator]
def _keep(context: Any, address: Any, element: Any, kept: Any) -> Any:
    """Set to zero those of the 64 elements at an address whose bit is clear."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, _, kept = arguments
        vector = _vector(element)
        mask = builder.sext(builder.bitcast(kept, ir.VectorType(ir.IntType(1), BLOCK)), vector)
        values = builder.and_(_load(builder, address, vector), mask)
        builder.store(values, builder.inttoptr(address, vector.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, element, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _element_at(context: Any, address: Any, element: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _load(builder, arguments[0], ir.IntType(element.bitwidth))

    return element(types.int64, element), generate


@intrinsic  # type: ignore[untyped-decorator]
def _put(context: Any, address: Any, value: Any) -> Any:
    """Store a value at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], arguments[1].type.as_pointer())
        builder.store(arguments[1], place, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, value), generate


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch(context: Any, address: Any, element: Any) -> Any:
    """Fetch the block that follows 4 KiB after an address into the cache; where there is no memory, do nothing."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        prefetch = get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        for line in range(0, BLOCK * element.bitwidth // 8, LINE):
            place = builder.add(arguments[0], context.get_constant(types.int64, AHEAD + line))
            builder.call(prefetch, [builder.inttoptr(place, byte), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(types.int64, element), generate


@intrinsic  # type: ignore[untyped-decorator]
def _width(context: Any, element: Any) -> Any:
    """Return the size of an element in bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.int64, element.bitwidth // 8)

    return types.int64(element), generate


@intrinsic  # type: ignore[untyped-decorator]
def _lowest(context: Any, word: Any) -> Any:
    """Return the position of the lowest set bit of a uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return types.int64(types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _count(context: Any, word: Any) -> Any:
    """Count the set bits of a uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@_inline
def _first_bits(count):  # type: ignore[no-untyped-def]
    """Return a uint64 whose lowest `count` bits are set, 1 to 64."""
    return np.uint64(0xFFFF_FFFF_FFFF_FFFF) >> np.uint64(64 - count)


@_inline
def _all_bits(wanted):  # type: ignore[no-untyped-def]
    """Return a uint64 with all bits set, or none."""
    return np.uint64(0) - np.uint64(wanted)


@_inline
def _copy(source, target, count, element):  # type: ignore[no-untyped-def]
    for i in range(count):
        _put(target + i * _width(element), _element_at(source + i * _width(element), element))


@_jit
def scan(addresses, sizes, element, sign, limits, collected, every, counts, buffer, ends, state):  # type: ignore[no-untyped-def]
    """Count the keys of each array from each limit on, and collect every `every`-th of those in some intervals.

    Args:
        addresses, sizes: int64 [arrays].
        limits: ascending keys [limits].
        collected: bool [limits]; whether to collect the keys from this limit on, up to the next.
        counts: int64 [arrays, limits], added to.
        buffer: takes the keys that are collected; those that find no room are counted only.
        ends: int64 [arrays]; set to the number collected up to the end of each array.
        state: int64 [2]: how many are collected, and how many to leave out before the next; both go on from call
            to call.
    """
    width = _width(element)
    rest = np.empty(BLOCK, buffer.dtype)
    stored, skip = state[0], state[1]
    one = np.uint64(1)
    # Up to three limits, the usual number, are counted in registers: in two thirds of the time.
    few, last, middle = limits.size <= 3, limits.size - 1, min(1, limits.size - 1)
    wanted_0, wanted_1 = _all_bits(collected[0]), _all_bits(collected[middle])
    wanted_2 = _all_bits(collected[last])
    for array in range(addresses.size):
        row = counts[array]
        count_0, count_1, count_2 = 0, 0, 0
        for start in range(0, sizes[array], BLOCK):
            address = addresses[array] + start * width
            _prefetch(address, element)
            valid = _first_bits(64)
            if sizes[array] - start < BLOCK:
                valid = _first_bits(sizes[array] - start)
                _copy(address, rest.ctypes.data, sizes[array] - start, element)
                address = np.int64(rest.ctypes.data)
            if few:
                from_0 = _at_least(address, element, sign, limits[0]) & valid
                from_1 = _at_least(address, element, sign, limits[middle]) & valid
                from_2 = _at_least(address, element, sign, limits[last]) & valid
                count_0 += _count(from_0)
                count_1 += _count(from_1)
                count_2 += _count(from_2)
                hits = (wanted_0 & from_0 & ~from_1) | (wanted_1 & from_1 & ~from_2) | (wanted_2 & from_2)
            else:
                hits, higher = np.uint64(0), np.uint64(0)
                for limit in range(last, -1, -1):
                    found = _at_least(address, element, sign, limits[limit]) & valid
                    row[limit] += _count(found)
                    hits |= _all_bits(collected[limit]) & found & ~higher
                    higher = found
            if every > 1 and hits:
                hit_count = _count(hits)
                if hit_count <= skip:
                    skip -= hit_count
                    hits = np.uint64(0)
            while hits:
                if skip:
                    skip -= 1
                else:
                    if stored < buffer.size:
                        buffer[stored] = _key_at(address + _lowest(hits) * width, element, sign)
                    stored += 1
                    skip = every - 1
                hits &= hits - one
        if few:
            row[0] += count_0
            if 0 < middle < last:
                row[middle] += count_1
            if last:
                row[last] += count_2
        ends[array] = stored
    state[0], state[1] = stored, skip


@_jit
def sample(addresses, sizes, firsts, element, sign, every, buffer):  # type: ignore[no-untyped-def]
    """Fill `buffer` with every `every`-th key of each array, from position firsts[array] on."""
    stored = 0
    for array in range(addresses.size):
        for i in range(firsts[array], sizes[array], every):
            buffer[stored] = _key_at(addresses[array] + i * _width(element), element, sign)
            stored += 1
    return stored


@_jit
def pack(addresses, sizes, element, sign, keys, ties, outputs, zero, counts):  # type: ignore[no-untyped-def]
    """Write one bit a key: set above keys[array], and for the first ties[array] equal to it.

    Args:
        addresses, sizes: int64 [arrays].
        keys: the key at which each array is cut.
        ties: int64 [arrays]; what is left of it is written back.
        outputs: int64 [arrays]: addresses of (size + 7) // 8 bytes each.
        zero: also set to zero, in place, the elements whose bit is clear.
        counts: int64 [arrays], added to: how many are above.
    """
    width = _width(element)
    rest = np.empty(BLOCK, np.int64)
    for array in range(addresses.size):
        left, above = ties[array], 0
        for start in range(0, sizes[array], BLOCK):
            place = address = addresses[array] + start * width
            _prefetch(address, element)
            count = min(sizes[array] - start, BLOCK)
            valid = _first_bits(count)
            if count < BLOCK:
                address = np.int64(rest.ctypes.data)
                _copy(place, address, count, element)
            kept = _above(address, element, sign, keys[array]) & valid
            above += _count(kept)
            if left:
                tied = _equal(address, element, sign, keys[array]) & valid
                while tied and left:
                    bit = tied & (~tied + np.uint64(1))
                    kept |= bit
                    tied ^= bit
                    left -= 1
            if zero:
                _keep(address, element, kept)
                if count < BLOCK:
                    _copy(address, place, count, element)
            output = outputs[array] + start // 8
            if count < BLOCK:
                for byte in range((count + 7) // 8):
                    _put(output + byte, np.uint8((kept >> np.uint64(8 * byte)) & np.uint64(255)))
            else:
                _put(output, kept)
        ties[array] = left
        counts[array] += above


@_jit
def _zero_pruned(address, size, element, packed):  # type: ignore[no-untyped-def]
    """Set to zero, in place, the elements of an array whose bit in `packed` is clear."""
    width = _width(element)
    whole = size // BLOCK
    bits = np.int64(packed.ctypes.data)
    for block in range(whole):
        _prefetch(address + block * BLOCK * width, element)
        _keep(address + block * BLOCK * width, element, _element_at(bits + 8 * block, np.uint64(0)))
    for i in range(whole * BLOCK, size):
        if not packed[i >> 3] >> (i & 7) & 1:
            _put(address + i * width, element)


@_jit
def shift_in(packed, start, chunk):  # type: ignore[no-untyped-def]
    """Set the bits of `chunk` in `packed`, from bit `start` on."""
    shift = start & 7
    for i in range(chunk.size):
        packed[(start >> 3) + i] |= np.uint8(chunk[i] << shift)
        if shift and chunk[i] >> (8 - shift):
            packed[(start >> 3) + i + 1] |= np.uint8(chunk[i] >> (8 - shift))


@_jit
def find_ranks(addresses, sizes, element, sign, ranks, scratch, keys, above):  # type: ignore[no-untyped-def]
    """Find the ranks[array]-th largest key of each array, and how many are above it; `scratch` holds one array."""
    for array in range(addresses.size):
        size = sizes[array]
        for i in range(size):
            scratch[i] = _key_at(addresses[array] + i * _width(element), element, sign)
        select_largest(scratch, 0, size, ranks[array])
        key = scratch[ranks[array] - 1]
        larger = 0
        for i in range(ranks[array]):
            larger += scratch[i] > key
        keys[array], above[array] = key, larger
