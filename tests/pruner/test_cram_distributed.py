"""CrAM on two processes: the same draws and masks, and with the same data the weights of a single process."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.ranks import module_of, run_ranks

SCRIPT = Path(__file__).with_name("cram_rank.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available(), reason="this PyTorch is built without distributed"),
]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run the script once as two processes and return what each found."""
    return run_ranks(SCRIPT, tmp_path_factory.mktemp("cram"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return module_of(SCRIPT)


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_equal_data_gives_the_weights_of_a_single_process(
    ranks: list[dict[str, Any]], script: ModuleType, how: str
) -> None:
    """The mean of two equal gradients is exact, so the runs are equal bit for bit."""
    alone = script.train(script.network())
    for rank in ranks:
        assert rank[how]["digests"] == alone["digests"]
        for name, weight in alone["weights"].items():
            assert torch.equal(weight, rank[how]["weights"][name]), name
    assert len(set(alone["digests"])) == script.STEPS


def test_ranks_with_data_of_their_own_prune_alike(ranks: list[dict[str, Any]]) -> None:
    first, second = (rank["ddp, data of each rank"] for rank in ranks)
    assert first["digests"] == second["digests"]
    assert all(torch.equal(weight, second["weights"][name]) for name, weight in first["weights"].items())


def test_draws_of_other_seeds_are_found_out(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["error"].startswith("the masks differ between the ranks")
