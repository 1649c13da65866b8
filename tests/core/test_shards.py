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

from gpmt.core.scope import find_scope
from gpmt.core.shards import is_shared, local, local_part, process_groups, reshard, whole
from gpmt.masks import Masks

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


def test_nothing_is_imported_for_tensors_that_are_not_shared() -> None:
    code = (
        "import sys, torch, gpmt; gpmt.prune_(torch.nn.Linear(3, 3), sparsity=0.5); "
        "print('torch.distributed.tensor' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
