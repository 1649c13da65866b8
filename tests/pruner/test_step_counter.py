"""Steps are counted without reading what a GradScaler left on the device, until the count is asked for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpmt.pruner.step_counter import StepCounter


@given(st.lists(st.sampled_from(["step", "skipped", "number", "finite", "infinite", "read"])))
def test_counts_the_steps_that_were_not_skipped(events: list[str]) -> None:
    values = {"step": None, "skipped": 1.0, "number": 0, "finite": torch.zeros(1), "infinite": torch.ones(())}
    steps, done = StepCounter(3), 3
    for event in events:
        if event == "read":
            assert steps.read() == done
        else:
            steps.add(values[event])
            done += event in ("step", "number", "finite")
        assert steps.at_most >= done
    assert steps.read() == steps.at_most == done


def test_adding_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to wait for a device goes through `item` or `__bool__`."""

    def read(*_: object) -> None:
        raise AssertionError("a value was read")

    steps, value = StepCounter(), torch.ones(())
    with monkeypatch.context() as patch:
        for name in ("item", "__bool__", "__int__", "__float__", "tolist", "cpu", "numpy"):
            patch.setattr(torch.Tensor, name, read)
        for _ in range(3):
            steps.add(value)
        assert steps.at_most == 3
    assert steps.read() == 0
