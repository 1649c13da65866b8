"""All tensors of a network or state_dict, with what each is for and whether it can be pruned as it is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import type_before_parametrizations

from gpmt.core.blocks.block_names import blocks_by_name, blocks_of_part
from gpmt.core.blocks.blocks import Blocks
from gpmt.core.blocks.module_blocks import blocks_in
from gpmt.core.layers.adapters import in_adapter, with_adapters
from gpmt.core.layers.axes import Axes, find_axes
from gpmt.core.layers.layer_names import Neighbours, kind_by_name, role_by_name
from gpmt.core.layers.layers import Surroundings
from gpmt.core.layers.reach import Reach
from gpmt.core.layers.roles import Role, joined
from gpmt.core.memory import identity
from gpmt.core.scope.described import Described, Description
from gpmt.core.scope.reparametrised import Effective, find_part, may_be_part
from gpmt.core.shards import local
from gpmt.errors import ScopeError
from gpmt.model_tools import not_a_network, program_kind, unwrap
from gpmt.torch_private import is_traceable_wrapper_subclass

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass
class Candidate:
    """One tensor, under all its names, whether it turns out to be prunable or not.

    Attributes:
        tensor: the tensor.
        kind: class of the owning layer, or what its name tells.
        problem: why it cannot be pruned as it is, should it be chosen.
        names: its names.
        owners: the module of each; None where no module is known.
        roles: what it is for under each.
        role: what it is for under all its names.
        holds_weights: whether it could hold weights: floating or complex numbers in two or more dimensions.
        weights: the names of the weights that are computed from it, one for each of its own.
        effective: how those are computed.
    """

    tensor: Tensor
    kind: str
    problem: str | None
    holds_weights: bool
    names: list[str] = field(default_factory=list)
    owners: list[nn.Module | None] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)
    role: Role = Role.NO_WEIGHTS
    weights: list[str] = field(default_factory=list)
    effective: Effective | None = None

    @property
    def name(self) -> str:
        """Its first name."""
        return self.names[0]

    @property
    def needs(self) -> Reach:
        """How directly it must be asked for."""
        return self.role.needs


@dataclass(frozen=True)
class Candidates:
    """All tensors of a network or state_dict.

    Attributes:
        rows: the tensors, in the order of the network; tied ones are joined.
        modules: the modules by name; empty where none are known.
        tensors: all tensors by name.
        description: the network that files belong to.
    """

    rows: list[Candidate]
    modules: Mapping[str, nn.Module]
    tensors: Mapping[str, Tensor]
    description: Description | None = None

    def blocks(self, candidate: Candidate) -> Blocks | None:
        """Return how a tensor divides, by the first of its names that tells; None for one block."""
        found = (self._blocks(name, candidate.tensor) for name in candidate.weights or candidate.names)
        return next((blocks for blocks in found if blocks is not None), None)

    def axes(self, candidate: Candidate) -> Axes:
        """Return what the dimensions of a tensor count."""
        name = (candidate.weights or candidate.names)[0]
        shape = () if is_lazy(candidate.tensor) else tuple(candidate.tensor.shape)
        return find_axes(name, candidate.kind, shape, candidate.owners[0], self.tensors)

    def _blocks(self, name: str, tensor: Tensor) -> Blocks | None:
        if is_lazy(tensor):
            return None
        if self.modules:
            return blocks_in(name, tensor, self.modules)
        description = self.description
        if description is None or description.network is None or (own := description.names.get(name)) is None:
            return blocks_by_name(name, tensor, self.tensors)
        several, whole = description.divided.get(name), description.parameters.get(own)
        if whole is None:
            return several
        blocks = blocks_in(own, whole, description.modules)
        if several is not None:  # each of the parameters may be a stack too
            return several if blocks is None else several.and_of(blocks, tensor.shape)
        return blocks if whole.shape == tensor.shape else blocks_of_part(name, tensor, self.tensors, blocks)


def find_candidates(target: object) -> Candidates:
    """Return all parameters of a module, or all tensors of a mapping; tied ones joined.

    Raises `ScopeError` for another object.
    """
    modules: dict[str, nn.Module] = {}
    description = None
    if isinstance(target, nn.Module):
        model = unwrap(target)
        modules = dict(model.named_modules(remove_duplicate=False))
        tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
        stored = tensors
        if any(may_be_part(name) for name in tensors):
            stored = tensors | dict(model.named_buffers(remove_duplicate=False))
    elif isinstance(target, Mapping):
        tensors = {k: v for k, v in target.items() if isinstance(k, str) and isinstance(v, Tensor)}
        stored = tensors
        if isinstance(target, Described) and target.description.network is not None:
            description = target.description
    elif program_kind(target):
        raise ScopeError(not_a_network(target))
    else:
        raise ScopeError(
            f"cannot prune an object of type {type(target).__name__}; give an nn.Module or a state_dict"
        )
    described = {} if description is None else _in_network(description)
    surroundings = Surroundings(modules, tensors) if modules else None
    neighbours = Neighbours(tensors)
    wrapped = with_adapters(modules)
    found: dict[Hashable, Candidate] = {}
    for stored_name, tensor in tensors.items():
        part = find_part(stored_name, stored, modules)
        problem = None if part is None else part.problem
        if part is not None and problem is None and part.effective is None:
            continue  # such as the magnitude of weight norm
        name = stored_name if part is None else part.weight
        key: Hashable = name if problem else identity(tensor)
        parent, _, attribute = name.rpartition(".")
        known = described.get(stored_name)
        owner = modules.get(parent) if known is None else known.owner
        role = Role.NO_WEIGHTS
        holds_weights = _holds_weights(tensor)
        if holds_weights:
            if known is not None:
                role = known.role
            elif surroundings is None or owner is None:
                role = role_by_name(name, tensor, neighbours)
            else:
                role = surroundings.role(name, tensor, owner)
            if role is Role.LAYER and in_adapter(name, wrapped):
                role = Role.ADAPTER
        kind = (
            kind_by_name(attribute, tensor) if owner is None else type_before_parametrizations(owner).__name__
        )
        candidate = found.get(key)
        if candidate is None:
            problem = problem or _unusable(name, tensor)
            candidate = found[key] = Candidate(tensor, kind, problem, holds_weights)
        if part is not None and part.effective is not None:
            candidate.effective = part.effective
            candidate.weights.append(name)
            name = stored_name
        if name not in candidate.names:  # it is there for the second part of a reparametrised weight
            candidate.names.append(name)
            candidate.owners.append(owner)
        candidate.roles.append(role)
    for candidate in found.values():
        candidate.role = joined(candidate.roles)
    return Candidates(list(found.values()), modules, tensors, description)


@dataclass(frozen=True)
class _Known:
    """A tensor of a file, as the network knows it."""

    role: Role
    owner: nn.Module | None


def _in_network(description: Description) -> dict[str, _Known]:
    """Name of a stored tensor -> what it is in the network under that name."""
    assert description.network is not None
    stored = description.parameters | description.buffers
    found = {
        name: _Known(candidate.role, owner)
        for candidate in find_candidates(description.network).rows
        for name, owner in zip(candidate.names, candidate.owners, strict=True)
    }
    buffer = _Known(Role.NO_WEIGHTS, None)  # which a network never trains
    parts = {own: find_part(own, stored, description.modules) for own in description.names.values()}
    weights = {own: own if own in found or part is None else part.weight for own, part in parts.items()}
    return {name: found.get(weights[own], buffer) for name, own in description.names.items()}


def _holds_weights(tensor: Tensor) -> bool:
    if is_lazy(tensor):
        return True
    return (tensor.is_floating_point() or tensor.is_complex()) and tensor.ndim >= 2 and tensor.numel() > 0


def _unusable(name: str, tensor: Tensor) -> str | None:
    """The problem of a tensor of weights that cannot be ranked as it is."""
    if is_lazy(tensor):
        return f"{name} is not initialised yet; call the model once on an input to give it its shape"
    if tensor.layout != torch.strided:
        return f"{name} has layout {tensor.layout}, but must be dense; convert it with to_dense()"
    if is_traceable_wrapper_subclass(local(tensor)):
        return (
            f"{name} is of the class {type(local(tensor)).__name__}, which does not hold its values as they are, as "
            "quantised weights do not; prune before quantising"
        )
    if tensor.dtype not in _DTYPES:
        return (
            f"{name} has dtype {tensor.dtype}, but must be float64, float32, float16 or bfloat16; convert it"
        )
    return None
