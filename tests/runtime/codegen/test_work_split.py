"""How work is split into items: every row once, and items of about equal work."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.codegen.counting import count_up
from tests.runtime.kernels.drawing import few_examples
from tests.runtime.kernels.guarded import copied, run

from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.codegen.kernel import FixedSizeKernel
from gpmt.runtime.codegen.work_split import MAX_ITEM_WORK, MIN_ITEM_WORK, WorkSplit

SIZES = st.integers(1, 5) | st.integers(1, 3000)


@dataclass(frozen=True)
class CountKernel(FixedSizeKernel):
    """Adds one to a count for each row of each channel of each image."""

    ARGS: ClassVar[tuple[str, ...]] = ("counts",)

    split: WorkSplit

    @property
    def items(self):
        return self.split.items

    def emit(self):
        e = Emitter(4, self.ARGS)
        item = self.split.item(e)
        with e.loop(*item.channels) as channel, e.loop(*item.rows) as row:
            plane = e.add(e.mul(item.image, self.split.channels), channel)
            index = e.add(e.mul(plane, self.split.rows), row)
            count_up(e, index)
        return e.text()


@few_examples
@given(
    st.integers(1, 3), SIZES, st.integers(1, 300), SIZES, st.sampled_from([1, 16]), st.sampled_from([1, 4])
)
def test_every_row_is_in_one_item(images, channels, rows, row_work, channel_multiple, row_multiple):
    split = WorkSplit.of(
        images, channels, rows, row_work, channel_multiple=channel_multiple, row_multiple=row_multiple
    )
    assert split.channels_per_item % channel_multiple == 0
    assert split.rows_per_item % row_multiple == 0
    counts = copied(np.zeros((images, channels, rows), np.int64))
    run(CountKernel(split), {"counts": counts})
    assert (counts == 1).all()


def test_items_are_neither_large_nor_small():
    large, small = WorkSplit.of(16, 256, 56, 56), WorkSplit.of(1, 2048, 7, 8)
    assert 50_000 < large.channels_per_item * large.rows_per_item * 56 < 2 * MAX_ITEM_WORK
    assert MIN_ITEM_WORK / 2 < small.channels_per_item * small.rows_per_item * 8 < 2 * MIN_ITEM_WORK
