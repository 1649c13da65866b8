"""Shared tensors in a group of one process; two processes are in tests/pruner/test_pruner_fsdp.py."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from gpmt.core.scope.scope import find_scope
from gpmt.core.shards import (
    is_shared,
    local,
    local_part,
    naming_missing_backend,
    process_groups,
    reshard,
    whole,
)
from gpmt.errors import WeightsError
from gpmt.masks import Masks
from gpmt.prune import plan
from gpmt.pruner.agreement import check_ranks_agree

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this PyTorch is built without distributed")


@pytest.fixture
def share() -> Iterator[Any]:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Shard, distribute_tensor

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    mesh = DeviceMesh("cpu", [0])
    yield lambda tensor: distribute_tensor(tensor, mesh, [Shard(0)])
    dist.destroy_process_group()


def test_a_tensor_that_is_not_shared_is_its_own_whole_and_part() -> None:
    tensor, mask = torch.ones(2, 3), torch.eye(2, 3, dtype=torch.bool)
    assert not is_shared(tensor)
    assert whole(tensor) is local(tensor) is tensor
    assert local_part(mask, tensor) is mask
    assert process_groups([tensor]) == []


def test_a_shared_tensor(share: Any) -> None:
    values = torch.arange(6.0).reshape(3, 2)
    parameter = nn.Parameter(share(values))
    assert is_shared(parameter)
    assert type(whole(parameter)) is Tensor
    assert torch.equal(whole(parameter), values)
    assert torch.equal(local_part(values > 2, parameter), values > 2)
    assert len(process_groups([parameter, torch.ones(1), share(values)])) == 1
    with torch.no_grad():
        local(parameter).zero_()
    assert not whole(parameter).any()


def test_masks_apply_to_shared_tensors(share: Any) -> None:
    masks = Masks.from_dense({"w": torch.tensor([[True, False], [False, True]])})
    state = {"w": share(torch.full((2, 2), -torch.inf))}
    masks.apply_(state)
    assert whole(state["w"]).tolist() == [[-torch.inf, 0], [0, -torch.inf]]


def test_tied_shared_tensors_are_found_in_a_state_dict(share: Any) -> None:
    tied, other = share(torch.ones(4, 4)), share(torch.ones(4, 4))
    state = {"a.weight": tied.detach(), "b.weight": tied.detach(), "c.weight": other.detach()}
    assert find_scope(state, shared=True).aliases == {"a.weight": ("b.weight",)}


def test_fully_sharded_modules_show_shards_again(share: Any) -> None:
    from torch.distributed.fsdp import fully_shard

    model = nn.Linear(2, 3)
    reshard(model)
    fully_shard(model)
    reshard(model)
    model(torch.ones(1, 2))
    assert not is_shared(model.weight)
    reshard(model)
    assert is_shared(model.weight)


@pytest.fixture
def no_backend_for_the_cpu() -> Iterator[None]:
    """A group of two processes that can send tensors of GPUs only; the other is not there."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("cuda:fake", store=FakeStore(), rank=0, world_size=2)
    yield
    dist.destroy_process_group()


def test_offloaded_shards_without_a_backend_for_the_cpu_are_refused(no_backend_for_the_cpu: None) -> None:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Shard

    shared = DTensor.from_local(torch.ones(2, 3), DeviceMesh("cpu", [0, 1]), [Shard(0)], run_check=False)
    for use in (whole, lambda tensor: plan({"w.weight": tensor}, sparsity=0.5)):
        with pytest.raises(
            WeightsError,
            match=r"^the weights are on cpu, as with FSDP2's CPU offload, but the processes have no backend that "
            r"sends such tensors; start them with init_process_group\('cpu:gloo,cuda:nccl'\)$",
        ):
            use(shared)
    masks = Masks.from_dense({"w": torch.ones(4, 3, dtype=torch.bool)})
    with pytest.raises(WeightsError, match="the processes have no backend"):
        check_ranks_agree(masks, [shared], process_groups([shared]))


def test_other_errors_of_sending_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match=r"^timed out$"), naming_missing_backend():
        raise RuntimeError("timed out")


def test_nothing_is_imported_for_tensors_that_are_not_shared() -> None:
    code = (
        "import sys, torch, gpmt; gpmt.prune_(torch.nn.Linear(3, 3), sparsity=0.5); "
        "print('torch.distributed.tensor' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
