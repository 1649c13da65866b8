"""FSDP2 on two processes: the masks and weights of the network that is not sharded, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.ranks import module_of, run_ranks

from gpmt.core.schedule.schedule import Gradual, OneShot
from gpmt.masks import Masks
from gpmt.prune import plan
from gpmt.verification import verify

SCRIPT = Path(__file__).with_name("fsdp_rank.py")
NUMEL = 8 * 15 + 15 * 4 + 4

pytestmark = [
    pytest.mark.skipif(not dist.is_available(), reason="this PyTorch is built without distributed"),
    pytest.mark.slow,  # its processes take half a minute
]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run the script once as two processes and return what each found."""
    return run_ranks(SCRIPT, tmp_path_factory.mktemp("fsdp"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return module_of(SCRIPT)


@pytest.fixture(scope="module")
def alone(script: ModuleType) -> Callable[..., dict[str, Any]]:
    """Train the network in this process, in one piece."""

    def train(schedule: Any, **options: Any) -> dict[str, Any]:
        model = script.network()
        found: dict[str, Any] = script.train(model, *script.start(model, schedule, **options))
        return found

    return train


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Check final weights and optimiser state bit for bit."""
    for part in ("weights", "memory"):
        assert found[part].keys() == expected[part].keys()
        for name, value in expected[part].items():
            assert torch.equal(found[part][name], value), name


def assert_zero_where_pruned(result: dict[str, Any], masks: Masks) -> None:
    for name, mask in masks.items():
        kept = [result["weights"][name]]
        kept += [v for key, v in result["memory"].items() if key.startswith(name) and v.shape == mask.shape]
        assert len(kept) > 1
        assert not any(value[~mask].any() for value in kept), name


@pytest.mark.parametrize("schedule", ["one-shot", "gradual", "acdc"])
def test_sharded_training_equals_training_without_sharding(
    ranks: list[dict[str, Any]],
    script: ModuleType,
    alone: Callable[..., dict[str, Any]],
    schedule: str,
) -> None:
    """The mean of two equal gradients is exact, so the runs are equal bit for bit."""
    expected = alone(script.SCHEDULES[schedule])
    for rank in ranks:
        assert rank[schedule]["digests"] == expected["digests"]
        assert_equal(rank[schedule], expected)
    both = zip(*(rank[schedule]["zeros"] for rank in ranks), strict=True)
    assert [sum(zeros) for zeros in both] == expected["zeros"]
    assert expected["zeros"][-1] == 2 * 0.75 * NUMEL
    masks = Masks.from_state_dict(expected["state"]["masks"])
    assert_zero_where_pruned(expected, masks)
    for name, mask in masks.items():
        assert mask.any()
        assert expected["memory"][f"{name}.momentum_buffer"][mask].all()  # gradients reach every layer


@pytest.mark.parametrize("method", ["ham", "rigl+ham", "set across"])
def test_methods_on_shards(
    ranks: list[dict[str, Any]], script: ModuleType, alone: Callable[..., dict[str, Any]], method: str
) -> None:
    """Masks come from whole gradients, and factors from those of each shard."""
    expected = alone(script.SCHEDULES["gradual"], method=script.METHODS[method])
    plain = alone(script.SCHEDULES["gradual"])
    assert not torch.equal(expected["weights"]["0.weight"], plain["weights"]["0.weight"])
    for rank in ranks:
        assert rank[method]["digests"] == expected["digests"]
        for name, weight in expected["weights"].items():
            torch.testing.assert_close(rank[method]["weights"][name], weight, rtol=1e-5, atol=1e-6)
        assert_zero_where_pruned(rank[method], Masks.from_state_dict(expected["state"]["masks"]))


def test_adam_and_floors(
    ranks: list[dict[str, Any]], script: ModuleType, alone: Callable[..., dict[str, Any]]
) -> None:
    adam = alone(script.SCHEDULES["gradual"], optimizer="adam")
    floors = alone(OneShot(0.75), min_kept=3, exclude="2")
    for rank in ranks:
        for name, expected in (("adam", adam), ("floors", floors)):
            assert rank[name]["digests"] == expected["digests"]
            assert_equal(rank[name], expected)
    masks = Masks.from_state_dict(ranks[0]["floors"]["state"]["masks"])
    assert {name: masks.kept(name) >= 3 for name in masks} == {"0.weight": True, "3.weight": True}


def test_given_masks(
    ranks: list[dict[str, Any]], script: ModuleType, alone: Callable[..., dict[str, Any]]
) -> None:
    expected = alone(None, masks=script.given_masks())
    for rank in ranks:
        assert rank["given-masks"]["digests"] == expected["digests"]
        assert_equal(rank["given-masks"], expected)
    masks = Masks.from_state_dict(ranks[0]["given-masks"]["state"]["masks"])
    assert list(masks) == ["0.weight", "3.weight"]
    assert masks.sparsity == 0.5
    assert_zero_where_pruned(expected, masks)


def test_ranks_agree_on_different_data(ranks: list[dict[str, Any]]) -> None:
    first, second = (rank["different-data"] for rank in ranks)
    assert first["digests"] == second["digests"]
    assert first["digests"] != ranks[0]["gradual"]["digests"]
    assert sum(rank["different-data"]["zeros"][-1] for rank in ranks) == 2 * 0.75 * NUMEL
    assert_equal(first, second)
    assert_zero_where_pruned(first, Masks.from_state_dict(first["state"]["masks"]))


@pytest.mark.parametrize("part", ["sharded_after_the_pruner", "resumed"])
def test_later_start_changes_nothing(ranks: list[dict[str, Any]], part: str) -> None:
    """Sharding after the Pruner was made, and resuming in the middle with whole states, end alike."""
    for rank in ranks:
        expected = rank["gradual"]["digests"]
        assert rank[part]["digests"] == expected[-len(rank[part]["digests"]) :]
        assert_equal(rank[part], rank["gradual"])


def test_accelerate(ranks: list[dict[str, Any]]) -> None:
    pytest.importorskip("accelerate")
    for rank in ranks:
        assert rank["accelerate"]["digests"] == rank["gradual"]["digests"]
        assert_equal(rank["accelerate"], rank["gradual"])


def test_masks_and_states_are_whole_on_every_rank(ranks: list[dict[str, Any]], script: ModuleType) -> None:
    for rank in ranks:
        masks = Masks.from_state_dict(rank["one-shot"]["state"]["masks"])
        masks.fits(script.network())
        assert masks.total_numel == NUMEL
        assert masks.total_pruned == 0.75 * NUMEL


def test_state_loads_where_an_evaluation_left_whole_parameters(
    ranks: list[dict[str, Any]], script: ModuleType
) -> None:
    masks = plan(script.network(), sparsity=0.75).masks()
    for rank in ranks:
        loaded = rank["loaded_after_an_evaluation"]
        assert loaded["were_whole"]  # else this test shows nothing
        assert Masks.from_state_dict(loaded["state"]["masks"]) == masks
        assert not any(loaded["weights"][name][~mask].any() for name, mask in masks.items())


def test_averages_are_pruned_sharded_or_not(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        found = rank["averages"]
        masks = Masks.from_state_dict(found["state"]["masks"])
        for name, mask in masks.items():
            for average in ("sharded", "plain"):
                zeros = found[average][name] == 0
                assert zeros[~mask].all()
                # Nothing updates these averages, so they have the zeros of all masks so far.
                assert masks.total_pruned <= sum(
                    int((w == 0).sum()) for w in found[average].values() if w.ndim == 2
                )
        assert not torch.equal(found["sharded"]["0.weight"], found["plain"]["0.weight"])


def test_a_step_sends_nothing(ranks: list[dict[str, Any]]) -> None:
    assert [rank["what_a_step_sends"] for rank in ranks] == [0, 0]


def test_mixed_precision(ranks: list[dict[str, Any]]) -> None:
    first, second = (rank["bfloat16"] for rank in ranks)
    assert first["digests"] == second["digests"]
    assert_equal(first, second)
    masks = Masks.from_state_dict(first["state"]["masks"])
    assert masks.total_pruned == 0.75 * NUMEL
    assert_zero_where_pruned(first, masks)


def test_replicas_of_shards(
    ranks: list[dict[str, Any]], script: ModuleType, alone: Callable[..., dict[str, Any]]
) -> None:
    expected = alone(script.SCHEDULES["acdc"])
    for rank in ranks:
        assert rank["replicas"]["digests"] == expected["digests"]
        assert_equal(rank["replicas"], expected)


def test_plan_and_prune_in_place(ranks: list[dict[str, Any]], script: ModuleType) -> None:
    model = script.network()
    matrix = model[0].weight.detach().clone()
    masks = plan(model, sparsity=0.6).masks()
    by_columns = plan({"0.weight": matrix}, sparsity=0.6).masks()["0.weight"]
    for rank in ranks:
        found = rank["pruned_in_place"]
        assert found["digest"] == found["not zero"] == masks.digest()
        for name, mask in masks.items():
            assert torch.equal(found["weights"][name] != 0, mask), name
        assert torch.equal(found["by_columns"], matrix * by_columns)
    assert masks.total_pruned == math.floor(0.6 * NUMEL)
    masks.apply_(model)
    reports = [str(verify(model, sparsity=0.6)), str(verify(model, granularity="column"))]
    assert [rank["pruned_in_place"]["reports"] for rank in ranks] == [reports, reports]


def test_different_masks_are_an_error_on_every_rank(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["different_settings"].startswith(
            "the masks differ between the ranks, because their weights or settings do; load the same weights"
        )


def test_zero_redundancy_optimizer_remembers_nothing_of_pruned_weights(ranks: list[dict[str, Any]]) -> None:
    pruned, kept = zip(*(rank["zero_redundancy"] for rank in ranks), strict=True)
    assert pruned == (0, 0)
    assert min(kept) > 0  # each rank has a part of the momentum


def test_the_schedules_prune_in_between(ranks: list[dict[str, Any]], script: ModuleType) -> None:
    assert isinstance(script.SCHEDULES["gradual"], Gradual)
    assert len(set(ranks[0]["gradual"]["digests"])) == 4
    assert "" in ranks[0]["acdc"]["digests"]
