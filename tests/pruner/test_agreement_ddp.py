"""DistributedDataParallel on two processes: equal masks, found without sending them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.ranks import module_of, run_ranks

SCRIPT = Path(__file__).with_name("ddp_rank.py")
SCHEDULES = ["one-shot", "gradual", "acdc"]

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this PyTorch is built without distributed")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run the script once as two processes and return what each found."""
    return run_ranks(SCRIPT, tmp_path_factory.mktemp("ddp"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return module_of(SCRIPT)


@pytest.mark.parametrize("data", ["same", "sharded"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ranks_have_equal_masks_and_zeros(ranks: list[dict[str, Any]], schedule: str, data: str) -> None:
    first, second = (rank[f"{schedule}-{data}"] for rank in ranks)
    assert first["digests"] == second["digests"]
    assert first["zeros"] == second["zeros"]
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
    pruned = 2 * 0.75 * (8 * 16 + 16 * 4)  # weights and their momentum
    assert first["zeros"][-1] == pruned
    if schedule == "one-shot":
        assert first["zeros"] == [pruned] * 8


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_methods_change_ranks_alike(ranks: list[dict[str, Any]], schedule: str) -> None:
    """HAM, RigL and SET on data of their own: equal gradients and one seed give equal masks and weights."""
    first, second = (rank[f"{schedule}-method"] for rank in ranks)
    assert first["digests"] == second["digests"]
    assert len(set(first["digests"])) >= {"one-shot": 1, "gradual": 6, "acdc": 4}[schedule]
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
    assert first["state"].keys() == second["state"].keys()
    assert first["state"]["method"] == second["state"]["method"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_equal_data_gives_the_masks_of_a_single_process(
    ranks: list[dict[str, Any]], script: ModuleType, schedule: str
) -> None:
    """The mean of two equal gradients is exact, so the runs are equal bit for bit."""
    alone = script.train(script.network(0), script.SCHEDULES[schedule], shard=0)
    distributed = ranks[0][f"{schedule}-same"]
    assert alone["digests"] == distributed["digests"]
    assert alone["zeros"] == distributed["zeros"]
    for name, weight in alone["weights"].items():
        assert torch.equal(weight, distributed["weights"][f"module.{name}"]), name
    assert len(set(ranks[0]["gradual-sharded"]["digests"])) > 2


def test_state_loads_on_every_rank(ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["resumed"] == ranks[1]["resumed"] == ranks[0]["one-shot-sharded"]["digests"][-1]


def test_different_weights_are_an_error_on_every_rank(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["error"].startswith(
            "the masks differ between the ranks, because their weights or settings do; load"
        )


def test_a_model_wrapped_after_its_pruner_was_made_is_checked_at_the_first_step(
    ranks: list[dict[str, Any]],
) -> None:
    """DistributedDataParallel then gives all ranks the weights of the first, but each has its own masks."""
    for rank in ranks:
        assert rank["wrapped late"]["equal"] == ""
        assert rank["wrapped late"]["different"].startswith(
            "the masks differ between the ranks, because their weights or settings do; load"
        )


def test_given_masks_have_to_be_the_same_on_every_rank(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["given masks"]["equal"] == ""
        assert rank["given masks"]["different"].startswith("the masks differ between the ranks")
