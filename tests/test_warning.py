import warnings

import pytest
import torch
from torch import distributed, nn

from gpmt.warning import GpmtWarning, warn


class Telling(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        warn("told")
        return x


def lines(call) -> list[tuple[str, str]]:
    """The text of each warning and the file that it points at."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(issubclass(warning.category, GpmtWarning) for warning in caught)
    return [(str(warning.message), warning.filename) for warning in caught]


def test_a_warning_points_at_the_line_that_led_to_it():
    assert lines(lambda: warn("directly")) == [("directly", __file__)]


def test_lines_of_pytorch_are_passed_over():
    namespace = {"__name__": "gpmt.somewhere", "warn": warn}
    exec("def inner():\n    warn('from within')\n", namespace)
    hook = Telling()
    hook.register_forward_hook(lambda *_: namespace["inner"]())
    assert lines(lambda: namespace["inner"]()) == [("from within", __file__)]
    assert [name for _, name in lines(lambda: hook(torch.ones(1)))] == [__file__, __file__]


@pytest.mark.parametrize(("rank", "said"), [(0, 1), (1, 0)])
def test_only_the_first_rank_warns(monkeypatch, rank, said):
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    monkeypatch.setattr(distributed, "get_rank", lambda: rank)
    try:
        assert len(lines(lambda: warn("once"))) == said
    finally:
        distributed.destroy_process_group()
