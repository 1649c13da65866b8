"""How work is cut into items, and how loops and rows are walked: exactly once each."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.guarded import copied, guarded, run

from gpmt.runtime.codegen.emitter import I64, Emitter
from gpmt.runtime.codegen.loops import Cut, along, stepped

few = settings(max_examples=12, deadline=None)
sizes = st.integers(1, 5) | st.integers(1, 3000)


@dataclass(frozen=True)
class Count:
    """Adds one to a number for each row of each channel of each image."""

    ARGS: ClassVar[tuple[str, ...]] = ("counts",)

    cut: Cut

    @property
    def items(self):
        return self.cut.items

    def emit(self):
        e = Emitter(4)
        image, start, stop, first, last = self.cut.of_item(e)
        with e.loop(start, stop) as channel, e.loop(first, last) as row:
            place = e.add(e.mul(e.add(e.mul(image, self.cut.channels), channel), self.cut.rows), row)
            address = e.add(e.arg(0), e.mul(place, 8))
            e.store(e.add(e.load(address, I64), 1), address)
        return e.text()


@few
@given(
    st.integers(1, 3), sizes, st.integers(1, 300), sizes, st.sampled_from([1, 16]), st.sampled_from([1, 4])
)
def test_every_row_is_in_one_item(images, channels, rows, row, by, rows_by):
    cut = Cut.of(images, channels, rows, row, by=by, rows_by=rows_by)
    assert cut.channels_each % by == 0
    assert cut.rows_each % rows_by == 0
    counts = copied(np.zeros((images, channels, rows), np.int64))
    run(Count(cut), {"counts": counts})
    assert (counts == 1).all()


def test_items_are_neither_large_nor_small():
    many, few = Cut.of(16, 256, 56, 56), Cut.of(1, 2048, 7, 8)
    assert 50_000 < many.channels_each * many.rows_each * 56 < 140_000
    assert 8_000 < few.channels_each * few.rows_each * 8 < 33_000


@dataclass(frozen=True)
class Row:
    """Writes 1 to the pixels of a row and 0 to its pads, and counts pixels in steps."""

    ARGS: ClassVar[tuple[str, ...]] = ("row", "counts")

    lanes: int
    width: int
    pitch: int
    step: int
    items: int = 1

    def emit(self):
        e = Emitter(self.lanes)
        along(e, self.width, self.pitch, lambda piece: piece.store(e, e.splat(1.0), e.arg(0)))

        def count(start, number):
            for i in range(number):
                address = e.add(e.arg(1), e.add(e.mul(start, 8), 8 * i))
                e.store(e.add(e.load(address, I64), 1), address)

        stepped(e, 0, self.width, self.width, self.step, count)
        return e.text()


@few
@given(
    st.sampled_from([4, 8, 16]), st.integers(1, 200), st.integers(0, 40), st.integers(1, 9),
    st.sampled_from(["start", "end"]),
)  # fmt: skip
def test_rows_and_steps(lanes, width, pads, step, side):
    row = guarded(width + pads, at=side)
    row[:] = 7
    counts = copied(np.zeros(width, np.int64), side)
    run(Row(lanes, width, width + pads, step), {"row": row, "counts": counts})
    assert (row[:width] == 1).all()
    assert (row[width:] == 0).all()
    assert (counts == 1).all()
