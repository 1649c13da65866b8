"""Private names of other libraries: each one that gpmt uses must be there, in any version that it accepts."""

import ast
import importlib
import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import nn

import gpmt

ROOT = Path(gpmt.__file__).parent
# The only modules with private names of other libraries. Python's locks have one module anyway.
MODULES = ("torch_private", "extras_private", "runtime/codegen/llvmlite_private", "runtime/threads/locks")
Node = TypeVar("Node", bound=ast.AST)


def private(name: str) -> bool:
    return any(part.startswith("_") and not part.endswith("__") for part in name.split("."))


def nodes(kind: type[Node]) -> Iterator[Node]:
    """Yield what is of a kind in the modules' source, which is only read: so one lost name hides no other."""
    trees = (ast.parse((ROOT / f"{module}.py").read_text()) for module in MODULES)
    return (node for tree in trees for node in ast.walk(tree) if isinstance(node, kind))


def look_up(name: str) -> Any:
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def compiled() -> Any:
    return torch.compile(nn.Linear(1, 1))


def static_input() -> Any:
    weight = torch.ones(1)
    torch._dynamo.mark_static_address(weight)
    return weight


def optimizer() -> Any:
    return torch.optim.SGD(nn.Linear(1, 1).parameters())


def library(name: str) -> Any:
    return pytest.importorskip(name)


OPERATOR = torch.ops.aten.add.Tensor
IMPORTED = sorted(
    name
    for node in nodes(ast.ImportFrom)
    for alias in node.names
    if private(name := f"{node.module}.{alias.name}")
)
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
    "state_dict._metadata": lambda: compiled().state_dict()._metadata,
    "AcceleratorState._reset_state": lambda: library("accelerate.state").AcceleratorState._reset_state,
    "WeightAveraging._average_model": lambda: (
        library("lightning.pytorch.callbacks").WeightAveraging()._average_model
    ),
    "AutoModelForImageClassification._model_mapping": lambda: (
        library("transformers").AutoModelForImageClassification._model_mapping
    ),
    "llvmlite.binding.ffi.lib._lock": lambda: library("llvmlite.binding").ffi.lib._lock.__enter__,
    "RLock._is_owned": lambda: threading.RLock()._is_owned,
    "RLock._at_fork_reinit": lambda: threading.RLock()._at_fork_reinit,
}


@pytest.mark.parametrize("name", IMPORTED)
def test_a_private_import_exists(name: str) -> None:
    if name.startswith("timm."):
        library("timm")
    assert look_up(name) is not None


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_private_attribute_exists(name: str) -> None:
    ATTRIBUTES[name]()


def test_the_logger_of_tensors_without_data_exists() -> None:
    from gpmt.torch_private import FAKE_TENSOR_LOGGER

    assert FAKE_TENSOR_LOGGER in logging.root.manager.loggerDict


def test_every_private_attribute_of_the_modules_is_looked_up() -> None:
    attributes = {node.attr for node in nodes(ast.Attribute) if private(node.attr)}
    strings = {str(node.value) for node in nodes(ast.Constant) if re.fullmatch(r"_\w+", str(node.value))}
    assert attributes | strings == {name.rpartition(".")[2] for name in ATTRIBUTES}
