"""Soft masks with DistributedDataParallel and FSDP2 on two processes: the network of a single one."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.ranks import module_of, run_ranks

import gpmt

SCRIPT = Path(__file__).with_name("soft_rank.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available(), reason="this PyTorch is built without distributed"),
]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run the script once as two processes and return what each found."""
    pytest.importorskip("torch.distributed.fsdp", reason="FSDP2 needs PyTorch 2.7 or newer")
    return run_ranks(SCRIPT, tmp_path_factory.mktemp("soft"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return module_of(SCRIPT)


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["digests"] == other["digests"]
    assert one["exact"]
    for name, weight in one["weights"].items():
        torch.testing.assert_close(weight, other["weights"][name], rtol=1e-6, atol=1e-7)
    dense, others = (result["state"]["method"]["dense"] for result in (one, other))
    for name, tensor in dense.items():
        assert type(tensor) is torch.Tensor
        torch.testing.assert_close(tensor, others[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["feather", "st-3", "flat"])
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_equal_data_gives_the_network_of_a_single_process(
    ranks: list[dict[str, Any]], script: ModuleType, kind: str, method: str
) -> None:
    model = script.network()
    alone = script.train(model, *script.start(model, script.METHODS[method]))
    for rank in ranks:
        assert_equal(rank[f"{kind}-{method}"], alone)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_ranks_agree_on_different_data(ranks: list[dict[str, Any]], kind: str) -> None:
    one, other = (rank[f"{kind}-different-data"] for rank in ranks)
    assert_equal(one, other)
    assert one["digests"] != ranks[0][f"{kind}-feather"]["digests"]
    for name, weight in one["weights"].items():
        assert torch.equal(weight, other["weights"][name]), name


def test_sharded_runs_resume(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        resumed, whole = rank["fsdp-resumed"], rank["fsdp-st-3"]
        assert resumed["digests"] == whole["digests"][3:]
        for name, weight in whole["weights"].items():
            assert torch.equal(weight, resumed["weights"][name]), name


def test_a_state_of_a_network_that_is_not_sharded_loads(
    ranks: list[dict[str, Any]], script: ModuleType
) -> None:
    weights = dict(script.network().named_parameters())
    for rank in ranks:
        for name, tensor in rank["dense-from-unsharded"].items():
            assert torch.equal(tensor, weights[name])


def test_averages_and_the_end(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        masks = gpmt.Masks.from_state_dict(rank["fsdp-average"]["state"]["masks"])
        assert masks.total_pruned == 0.75 * masks.total_numel
        for name, mask in masks.items():
            assert not rank["average"][name][~mask].any()
            assert torch.equal(rank["closed"][name] != 0, mask)
            assert torch.equal(rank["closed"][name], rank["fsdp-average"]["weights"][name])


def test_different_weights_are_an_error_on_every_rank(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["error"].startswith("the masks differ between the ranks")
