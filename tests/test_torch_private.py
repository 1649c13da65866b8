"""Private names of PyTorch: each one that gpmt uses must be there, in any version that it accepts."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from gpmt.torch_private import FAKE_TENSOR_LOGGER, compiled_from, is_inner_step, storage_id, write_count
from tests.private_names import attributes, imported, last_parts, look_up


def compiled() -> Any:
    return torch.compile(nn.Linear(1, 1))


def static_input() -> Any:
    weight = torch.ones(1)
    torch._dynamo.mark_static_address(weight)
    return weight


def optimizer() -> Any:
    return torch.optim.SGD(nn.Linear(1, 1).parameters())


OPERATOR = torch.ops.aten.add.Tensor
ATTRIBUTES: dict[str, Callable[[], Any]] = {
    "OptimizedModule._orig_mod": lambda: compiled()._orig_mod,
    "Tensor._dynamo_static_input_type": lambda: static_input()._dynamo_static_input_type,
    "aten._local_scalar_dense": lambda: torch.ops.aten._local_scalar_dense.default,
    "OpOverload._schema": lambda: OPERATOR._schema.arguments[0].alias_info,
    "OpOverload._overloadname": lambda: OPERATOR._overloadname,
    "Tensor._version": lambda: torch.ones(1)._version,
    "UntypedStorage._cdata": lambda: torch.ones(1).untyped_storage()._cdata,
    "MultiheadAttention._qkv_same_embed_dim": lambda: nn.MultiheadAttention(2, 1)._qkv_same_embed_dim,
    "Optimizer._optimizer_step_post_hooks": lambda: vars(optimizer())["_optimizer_step_post_hooks"],
    "Optimizer._patch_step_function": lambda: optimizer()._patch_step_function,
    **{
        f"torch.{name}": lambda name=name: getattr(torch, name)  # type: ignore[misc]
        for name in (
            "_foreach_add_",
            "_foreach_clamp_max_",
            "_foreach_clamp_min_",
            "_foreach_exp_",
            "_foreach_mul_",
            "_foreach_sign",
        )
    },
    "state_dict._metadata": lambda: compiled().state_dict()._metadata,
}


@pytest.mark.parametrize("name", imported("torch_private"))
def test_a_private_import_exists(name: str) -> None:
    assert look_up(name) is not None


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_private_attribute_exists(name: str) -> None:
    ATTRIBUTES[name]()


def test_every_private_attribute_is_looked_up() -> None:
    assert attributes("torch_private") == last_parts(ATTRIBUTES)


def test_the_logger_of_tensors_without_data_exists() -> None:
    assert FAKE_TENSOR_LOGGER in logging.root.manager.loggerDict


def test_only_what_torch_compile_returns_has_an_original() -> None:
    network = nn.Linear(1, 1)
    assert compiled_from(torch.compile(network)) is network
    assert compiled_from(network) is None


def test_a_step_inside_a_step_of_the_same_optimizer_is_told() -> None:
    class Twice(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            super().step(closure)

    found: list[bool] = []
    twice = Twice(nn.Linear(1, 1).parameters())
    twice.register_step_post_hook(lambda *_: found.append(is_inner_step(twice)))
    twice.step()
    twice.step()
    assert found == [True, False] * 2


def test_writes_are_counted_outside_inference_mode() -> None:
    tensor = torch.ones(2)
    before = write_count(tensor)
    tensor.add_(1)
    assert write_count(tensor) != before
    with torch.inference_mode():
        assert write_count(torch.ones(2)) is None


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_views_share_a_storage_and_copies_do_not(device: str) -> None:
    tensor = torch.ones(4, device=device)
    copy = tensor.clone()
    assert storage_id(tensor[1:]) == storage_id(tensor) != storage_id(copy)
