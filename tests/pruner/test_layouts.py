"""Copies laid out as a parameter; those of sharded ones are tested with the processes of soft masks."""

from __future__ import annotations

import torch

from gpmt.pruner.layouts import alike, copy_into, laid_out, written


def test_a_copy_has_the_layout_of_another() -> None:
    like = torch.zeros(2, 3, 4, 5, dtype=torch.float64).to(memory_format=torch.channels_last)
    values = torch.arange(120.0).view(2, 3, 4, 5)
    copy = laid_out(values, like)
    assert alike(copy, like)
    assert not alike(copy, values)
    assert copy.stride() == like.stride()
    assert torch.equal(copy, values.double())


def test_every_write_is_counted() -> None:
    for dtype in (torch.float32, torch.float64):
        source, target = torch.ones(5, dtype=dtype), torch.nn.Parameter(torch.zeros(5, dtype=dtype))
        before = written(target)
        assert before == written(target)
        copy_into(source, target)
        assert torch.equal(target, source)
        assert written(target) != before
