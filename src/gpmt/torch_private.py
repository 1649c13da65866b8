"""Every private interface of PyTorch that gpmt uses: names with an underscore, or from a private module.

A new version of PyTorch may rename or drop them without notice, so no other module names them.
`tests/test_torch_private.py` fails for each one that is gone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

# An operator with its overload, the type of what `torch.ops` holds. Only the private module has the class.
from torch._ops import OpOverload

# Tensors with shapes and without data, and the errors that tell values which only data can give.
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)

# `_ConvNd` is the one base class of all convolutions, `_ConvTransposeNd` that of the transposed ones.
from torch.nn.modules.conv import _ConvNd as ConvNd
from torch.nn.modules.conv import _ConvTransposeNd as ConvTransposeNd

# Modes that see every operator, the way to leave them for a moment, and the test for subclasses that hold tensors.
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._python_dispatch import _disable_current_modes as disable_current_modes

# Nested containers as a list of leaves and back, as torch.export does it: so that both list them in the same order.
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_map_only, tree_unflatten

__all__ = [
    "COMPILED",
    "FAKE_TENSOR_LOGGER",
    "READ_SCALAR",
    "ConvNd",
    "ConvTransposeNd",
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "FakeTensor",
    "FakeTensorMode",
    "OpOverload",
    "TorchDispatchMode",
    "TreeSpec",
    "compiled_from",
    "disable_current_modes",
    "foreach_add_",
    "foreach_clamp_max_",
    "foreach_clamp_min_",
    "foreach_exp_",
    "foreach_mul_",
    "foreach_sign",
    "has_one_projection",
    "is_inner_step",
    "is_static_input",
    "is_traceable_wrapper_subclass",
    "keep_metadata",
    "overload_name",
    "schema",
    "step_hooks",
    "storage_id",
    "support_step_hooks",
    "tree_flatten",
    "tree_leaves",
    "tree_map_only",
    "tree_unflatten",
    "write_count",
]

COMPILED = "_orig_mod"
"""The name by which what torch.compile returns holds the network; it also stands in the names of its tensors."""

FAKE_TENSOR_LOGGER = "torch._subclasses.fake_tensor"
"""The logger that reports operators which fail on tensors without data."""

READ_SCALAR = torch.ops.aten._local_scalar_dense.default
"""The operator by which Python reads a value out of a tensor."""

# Operations on lists of tensors: on a GPU few kernels, where one for each tensor would take long to start.
foreach_add_ = torch._foreach_add_
foreach_clamp_max_ = torch._foreach_clamp_max_
foreach_clamp_min_ = torch._foreach_clamp_min_
foreach_exp_ = torch._foreach_exp_
foreach_mul_ = torch._foreach_mul_
foreach_sign = torch._foreach_sign


def compiled_from(module: nn.Module) -> nn.Module | None:
    """Return the network that torch.compile made a module from, or None for any other module."""
    found = getattr(module, COMPILED, None)
    return found if isinstance(found, nn.Module) else None


def schema(operator: OpOverload) -> Any:
    """Return the declaration of an operator: its full name, arguments and results; nothing public has it."""
    return operator._schema


def overload_name(operator: OpOverload) -> str:
    """Return which overload of its name an operator is, for example `"Tensor"`."""
    return operator._overloadname


def write_count(tensor: Tensor) -> int | None:
    """Return how often a tensor was written to, as autograd counts it; None for one of inference mode, uncounted."""
    return None if tensor.is_inference() else tensor._version


def storage_id(tensor: Tensor) -> int:
    """Return the identity of a tensor's storage, as torch.save uses it: it also tells meta tensors apart."""
    return int(tensor.untyped_storage()._cdata)


def has_one_projection(attention: nn.MultiheadAttention) -> bool:
    """Return whether the projections of queries, keys and values are stacked in one tensor."""
    return bool(attention._qkv_same_embed_dim)


def step_hooks(optimizer: torch.optim.Optimizer) -> Mapping[int, Callable[..., Any]] | None:
    """Return the hooks that run after an optimiser's steps; None for a mere wrapper, which has none of its own.

    They can be registered by a public name, but not listed.
    """
    hooks: Mapping[int, Callable[..., Any]] | None = vars(optimizer).get("_optimizer_step_post_hooks")
    return hooks


def support_step_hooks(optimizer: torch.optim.Optimizer) -> None:
    """Make an optimiser's steps run their hooks; timm's Lookahead skips the constructor that does so."""
    if not getattr(type(optimizer).step, "hooked", False):
        optimizer._patch_step_function()


def is_inner_step(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a hook was called by a step that a step of the same optimiser called, as `super().step()` does.

    Every class's step runs the hooks, so that a step of a subclass of `Adam` may run them twice. All are called by
    one wrapper, which keeps the optimiser as `self`.
    """
    step, calls, frame = type(optimizer).step, 0, inspect.currentframe()
    wrapper = step.__code__ if inspect.isfunction(step) else None
    while frame is not None and calls < 2:
        calls += frame.f_code is wrapper and frame.f_locals.get("self") is optimizer
        frame = frame.f_back
    return calls > 1


def is_static_input(value: object) -> bool:
    """Return whether torch.compile gives a tensor to a graph as a weight, the same one in every call."""
    return hasattr(value, "_dynamo_static_input_type")


def keep_metadata(state_dict: Any, original: object) -> None:
    """Give a state_dict the modules' versions of another one, which `load_state_dict` looks at."""
    if hasattr(original, "_metadata"):
        state_dict._metadata = original._metadata
