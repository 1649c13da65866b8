"""Buffers between guard pages, and a way to run a kernel on them: one element too far crashes the process."""

import ctypes
import mmap
import weakref
from collections.abc import Mapping
from contextlib import contextmanager

import numpy as np

from gpmt.runtime.codegen import jit, kernel, processor
from gpmt.runtime.layout.planes import CACHE_LINE, Planes
from gpmt.runtime.machine_code.executable_memory import ExecutableMemory

PATTERN = np.float32(-12345.678)  # fills buffers before a kernel writes to them
_libc = ctypes.CDLL(None, use_errno=True)
_PROT_NONE = 0
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_areas = weakref.WeakSet()
_emulator = None


class Area(mmap.mmap):
    """Pages between two that can be neither read nor written.

    Attributes:
        page: bytes of one.
        first: address of the first of them.
        is_code: whether they are to be run.
    """

    page = mmap.PAGESIZE
    is_code = False

    def __new__(cls, size):
        pages = -(-size // cls.page)
        area = super().__new__(cls, -1, (pages + 2) * cls.page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(area))
        area.first = address + cls.page
        for guard in (address, area.first + pages * cls.page):
            if _libc.mprotect(guard, cls.page, _PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")
        _areas.add(area)
        return area

    @property
    def content(self):
        """All bytes between the guard pages."""
        return memoryview(self)[self.page : -self.page]

    def __contains__(self, address):
        return self.first <= address <= self.first + len(self.content)


def guarded(count, dtype=np.float32, at="end"):
    """Return an array [count] that ends (or starts, at="start") at a page that can be neither read nor written."""
    size = count * np.dtype(dtype).itemsize
    area = Area(size)
    start = area.page if at == "start" else len(area) - area.page - size
    return np.frombuffer(area, dtype, count, start)


def copied(array, at="end"):
    """Return a contiguous copy of an array between guard pages."""
    array = np.ascontiguousarray(array)
    result = guarded(array.size, array.dtype, at).reshape(array.shape)
    result[...] = array
    return result


class Buffer:
    """The planes of images between guard pages.

    With `images` [n, c, h, w] the padding of rows and `gap` elements around planes are zero, and everything else is
    NaN; without, every element is PATTERN.
    """

    def __init__(self, layout: Planes, images=None, at="end"):
        self.layout = layout
        self.elements = guarded(layout.size, at=at)
        self.pixels = layout.view(self.elements)
        if images is None:
            self.elements[:] = PATTERN
        else:
            self.elements[:] = np.nan
            for plane in range(layout.images * layout.channels):
                start = layout.origin + plane * layout.plane_stride
                self.elements[start - layout.gap : start + layout.extent + layout.gap] = 0
            self.pixels[...] = images

    @property
    def address(self):
        """The address of pixel (0, 0) of channel 0 of image 0."""
        return self.elements.ctypes.data + self.layout.origin_bytes

    def channel(self, first):
        """Return the address of pixel (0, 0) of a channel of image 0."""
        return self.address + first * self.layout.plane_bytes

    def check(self, expected, channels=None, tolerance=1e-5):
        """Compare the pixels with images [n, c, h, w]; padding must be zero, and everything else unchanged.

        Args:
            expected: what the pixels of `channels` (a slice; all of them by default) should be.
            tolerance: relative to the largest finite element of `expected`; 0 for equal elements.
        """
        layout = self.layout
        channels = channels or slice(None)
        close(self.pixels[:, channels], expected, tolerance)
        area = self.elements[layout.origin : layout.origin + layout.images * layout.image_stride]
        planes = area.reshape(layout.images, layout.channels, layout.plane_stride)
        rows = planes[:, channels, : layout.extent].reshape(*expected.shape[:3], layout.pitch)
        assert (rows[..., layout.width :] == 0).all(), "padding is not zero"
        written = -(-layout.extent // CACHE_LINE) * CACHE_LINE
        tail = planes[:, channels, layout.extent : written]
        assert ((tail == 0) | (tail == PATTERN)).all(), "something else than zeros behind the last row"
        rest = planes.copy()
        rest[:, channels, :written] = PATTERN
        assert (rest == PATTERN).all(), "written between planes or into other channels"
        outside = np.delete(self.elements, slice(layout.origin, layout.origin + area.size))
        assert (outside == PATTERN).all(), "written before the first plane or behind the last one"


def close(actual, expected, tolerance=1e-5):
    """Compare arrays; `tolerance` is relative to the largest finite element of `expected`, 0 wants equal elements."""
    assert actual.shape == expected.shape
    if tolerance == 0:
        np.testing.assert_array_equal(actual, expected)
    else:
        finite = np.abs(expected[np.isfinite(expected)])
        scale = float(finite.max()) if finite.size else 0.0
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale)


class Code:
    """Machine code that a kernel calls; `content` is uint8."""

    def __init__(self, content):
        self.content = content


def run(spec, args: Mapping[str, int | np.ndarray | Buffer | Code], order=None):
    """Compile a kernel and do all its items, in an order if one is given.

    Args:
        args: by the names in `spec.ARGS`: integers, arrays (their addresses), buffers (of their first pixel), code.
    """
    assert set(args) == set(spec.ARGS), f"arguments {sorted(args)} instead of {sorted(spec.ARGS)}"
    items = list(range(spec.items) if order is None else order)
    if _emulator is not None:
        codes = {name: _code_area(value) for name, value in args.items() if isinstance(value, Code)}
        words = [codes[name].first if name in codes else _word(args[name]) for name in spec.ARGS]
        _emulator.run(spec.code, words, list(_areas), items)
        return
    memories = {name: ExecutableMemory([v.content]) for name, v in args.items() if isinstance(v, Code)}
    words = [memories[n].addresses[0] if n in memories else _word(args[n]) for n in spec.ARGS]
    words = (ctypes.c_int64 * len(words))(*words)
    function = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_int64), ctypes.c_int64)(kernel.load(spec))
    for item in items:
        function(words, item)


def function(ir):
    """Return, as an argument of a kernel, the function `kernel` of a module of LLVM IR."""
    return jit.load(ir) if _emulator is None else Code(np.frombuffer(_emulator.compiled(ir), np.uint8))


@contextmanager
def executed_by(emulator):
    """Run kernels in an emulator instead of this process."""
    global _emulator
    _emulator = emulator
    try:
        yield
    finally:
        _emulator = None


def processor_kind():
    """Return the kind of the processor that kernels run on."""
    return processor.host().kind if _emulator is None else "neon"


def _code_area(code):
    area = Area(len(code.content))
    area.content[: len(code.content)] = code.content
    area.is_code = True
    return area


def backwards(spec):
    """Return the items of a kernel in reverse order: results must not depend on the order."""
    return reversed(range(spec.items))


def _word(value):
    if isinstance(value, Buffer):
        return value.address
    return value.ctypes.data if isinstance(value, np.ndarray) else int(value)
