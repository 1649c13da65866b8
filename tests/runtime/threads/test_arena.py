"""Arenas: zero, aligned, apart from one another, given back, and refused clearly where there is no memory."""

import gc
import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.threads.arena import Arena, arena_size, memory_errors_as_runtime_errors


@given(st.lists(st.integers(0, 5000), max_size=20))
def test_pieces_are_zero_aligned_and_apart(sizes):
    arena = Arena(arena_size(sizes))
    places = [arena.allocate(size) for size in sizes]
    assert not any(place % 64 for place in places)
    for number, (place, size) in enumerate(zip(places, sizes, strict=True), 1):
        assert not arena.bytes(place, size).any()
        arena.bytes(place, size)[:] = number
    for number, (place, size) in enumerate(zip(places, sizes, strict=True), 1):
        assert (arena.bytes(place, size) == number).all()


@given(st.lists(st.integers(0, 300), max_size=5))
def test_arrays_are_copied(lengths):
    arrays = [np.arange(length, dtype=np.float32) for length in lengths]
    arena = Arena(arena_size(array.nbytes for array in arrays))
    places = [arena.store(array) for array in arrays]
    for array, place in zip(arrays, places, strict=True):
        np.testing.assert_array_equal(arena.floats(place, len(array)), array)


@pytest.mark.parametrize("size", [1 << 50, 1 << 62, 1 << 80])
def test_no_memory(size):
    with pytest.raises(
        RuntimeProgramError,
        match=r"the runtime needs [\d,]+ MiB of memory, which the system does not give \(.+\); "
        "compile for a smaller batch",
    ):
        Arena(size)


def test_other_memory_errors_say_the_same():
    with (
        pytest.raises(
            RuntimeProgramError,
            match=r"needs more memory, which the system does not give \(Unable.+\); compile for a smaller",
        ),
        memory_errors_as_runtime_errors(),
    ):
        np.empty(1 << 55)


def test_memory_is_given_back():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1])

    def use():
        arena = Arena(64 << 20)
        arena.bytes(arena.allocate(64 << 20), 64 << 20)[:] = 1

    use()
    gc.collect()
    before = resident()
    for _ in range(5):
        use()
    gc.collect()
    assert resident() - before < (16 << 20) / 4096


def test_a_system_without_private_maps_or_huge_pages(monkeypatch):
    monkeypatch.delattr(mmap, "MAP_PRIVATE")
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12345, raising=False)  # is unknown to the kernel
    arena = Arena(100)
    assert not arena.bytes(arena.allocate(100), 100).any()
