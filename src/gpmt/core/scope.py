"""Which tensors of a network can be pruned."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import type_before_parametrizations

from gpmt.core.adapters import in_adapter
from gpmt.core.blocks import BlockRule, Blocks
from gpmt.core.described import Described, Description
from gpmt.core.judgement import BY_NAMES, Judgement
from gpmt.core.layer_names import holds_experts, kind_by_name, needs_by_name
from gpmt.core.layers import EMBEDDINGS, LAYERS
from gpmt.core.memory import identity, refuse_overlap
from gpmt.core.patterns import Pattern, Patterns, listed, matcher, names_type, shown
from gpmt.core.reach import Reach
from gpmt.core.reparametrised import Effective, find_part
from gpmt.core.shards import is_shared, local
from gpmt.errors import ScopeError
from gpmt.model_tools import not_a_network, program_kind, unwrap
from gpmt.suggestions import close_names
from gpmt.torch_private import is_traceable_wrapper_subclass

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Scope:
    """The prunable tensors of a network, in the order of its parameters.

    Attributes:
        tensors: name -> the network's own tensor (not a copy).
        aliases: first name -> the further names of a tied tensor; only tied tensors have an entry.
        kinds: name -> class of the owning layer (`"Conv2d"`); for a state_dict, where no class is known,
            `"matrix"`, `"convolution"`, `"attention"` or `"recurrent"`, judged by name and dimensions.
        judged: what told which tensors are prunable.
        ends: the first and the last layer of the whole network, where they are in the scope: name -> `"first"` or
            `"last"`; empty for a network of one layer.
        effective: name of the direction of a weight with weight_norm or spectral_norm -> how the weight is computed
            from it, which ranks it.
        blocks: name -> the layers that the tensor holds; tensors of one layer have no entry.
    """

    tensors: dict[str, Tensor]
    aliases: dict[str, tuple[str, ...]]
    kinds: dict[str, str]
    judged: Judgement = BY_NAMES
    ends: dict[str, str] = field(default_factory=dict)
    effective: dict[str, Effective] = field(default_factory=dict)
    blocks: dict[str, Blocks] = field(default_factory=dict)

    @property
    def numel(self) -> int:
        """Number of prunable weights; tied tensors count once."""
        return sum(tensor.numel() for tensor in self.tensors.values())


def find_scope(
    target: nn.Module | Mapping[str, Tensor],
    *,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
    blocks: Mapping[str, BlockRule] | None = None,
    shared: bool = False,
) -> Scope:
    """The tensors of a model or state_dict that pruning may touch.

    From a module: the weights of convolutions, transposed convolutions, `Linear`, `Bilinear`, transformers'
    `Conv1D`, attention projections, recurrent layers, and experts in one tensor (three-dimensional `gate_up_proj`,
    `gate_proj`, `up_proj`, `down_proj`), trainable or frozen; never biases, norms, integers.
    Embeddings, and layers tied to one, only where `scope` asks for them: by the name of the tensor, by the
    name of the embedding itself, or by their type. Adapters (LoRA) are left alone unless `scope` names them.

    From a state_dict, where only names and shapes are known: floating tensors of two or more dimensions whose
    last name is `weight` or one of the weight names of attention and recurrent layers and of experts, unless the
    layer (the last name before it that is not a number) is named like a norm (`norm1`, `ln_f`), is a router (`gate`
    beside `experts`) or, with two dimensions and without a bias, is named like an embedding (`embed_tokens`,
    `word_embeddings`, `wte`). Entries that are not tensors are ignored. The weights
    that `gpmt.load` reads beside a config.json of transformers are judged as those of the network (`Described`).

    A tensor under several names counts once, under the first; a pattern may use any of its names. A weight that
    weight_norm or spectral_norm computes is ranked as it is used, and stands here as the stored tensor whose zeros it
    has (`fc.weight_v`, `fc.parametrizations.weight.original1`); patterns may also name the weight (`fc.weight`).

    Args:
        target: the model (wrappers are taken off, see `unwrap`) or the mapping of names to tensors.
        scope: one or more patterns to choose by; `None` takes everything prunable. A pattern is the name of a
            tensor or of a module (with all inside it), a glob for the name of a tensor or of its layer
            (`"layer1.*"`), `"re:REGEX"` searched in the names of tensors, `"type:Conv2d"` for the class of
            the layer or a base class of it, or that class itself. Parameters of two or more dimensions of any
            other module, and adapters, are chosen by their exact name, by a glob that ends in their own name
            (`"*.W1"`, but not `"*.weight"`), by their module's class (`"type:GCNConv"`, `"type:ParameterList"`),
            and by any pattern that matches none of the layers above.
        exclude: patterns of the tensors to leave out again.
        blocks: how tensors divide into blocks, by pattern.
        shared: take tensors that several processes share (`DTensor`) too, as they are; otherwise they are refused.

    Raises:
        ScopeError: nothing is in scope, a pattern is malformed or matches nothing, or a chosen tensor cannot
            be pruned as it is (reparametrised, not yet initialised, complex, sparse, 8-bit floating, or in memory
            that another one views differently).

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
    >>> list(find_scope(net).tensors)
    ['0.weight', '3.weight']
    >>> find_scope(net, exclude="type:Linear").numel
    216
    """
    candidates = _candidates_of(target)
    if not candidates:
        raise ScopeError(_why_nothing(target, []))
    judged = _judgement(target)
    typed = judged.by == "layers"
    chosen = {i for i, c in enumerate(candidates) if c.needs == Reach.BROAD}
    if scope is not None:
        if not scope:
            raise ScopeError("scope is empty; leave it out to take every prunable tensor")
        chosen = {i for pattern in listed(scope) for i in _select(candidates, pattern, typed)}
    dropped = {i for pattern in listed(exclude) for i in _match(candidates, pattern, "exclude", typed)}
    remaining = [candidates[i] for i in sorted(chosen - dropped)]
    if not remaining:
        if chosen:
            raise ScopeError("exclude takes away every tensor in scope; exclude less")
        raise ScopeError(_why_nothing(target, candidates))
    for candidate in remaining:
        if candidate.problem is not None:
            raise ScopeError(f"{candidate.problem}, or {_exclude_all(remaining)}")
        if is_shared(candidate.tensor) and not shared:
            raise ScopeError(
                f"{candidate.names[0]} is shared by several processes; gather it first with full_tensor(), "
                "or exclude it"
            )
    weights = {c.names[0]: c.tensor for c in candidates if _holds_weights(c.tensor)}
    refuse_overlap([candidate.names[0] for candidate in remaining], weights)
    return Scope(
        tensors={c.names[0]: c.tensor for c in remaining},
        aliases={c.names[0]: tuple(c.names[1:]) for c in remaining if len(c.names) > 1},
        kinds={c.names[0]: c.kind for c in remaining},
        judged=judged,
        ends=_ends(candidates, remaining),
        effective={c.names[0]: c.effective for c in remaining if c.effective is not None},
        blocks={
            c.names[0]: rule for c in remaining if isinstance(rule := (blocks or {}).get(c.names[0]), Blocks)
        },
    )


def _exclude_all(remaining: list[_Candidate]) -> str:
    names = [candidate.names[0] for candidate in remaining if candidate.problem is not None]
    return (
        "exclude it" if len(names) == 1 else f"leave out all {len(names)} such tensors with exclude={names}"
    )


def _judgement(target: nn.Module | Mapping[str, Tensor]) -> Judgement:
    network = target if isinstance(target, nn.Module) else None
    if isinstance(target, Described):
        network = target.description.network
        if network is None:
            return Judgement("names", None, target.description.why)
    return BY_NAMES if network is None else Judgement("layers", type(unwrap(network)).__name__)


def _ends(candidates: list[_Candidate], remaining: list[_Candidate]) -> dict[str, str]:
    """Return which of the remaining tensors are the first and the last layer of the network."""
    layers = [candidate for candidate in candidates if candidate.needs == Reach.BROAD]
    if len(layers) < 2:
        return {}
    ends = ((layers[0], "first"), (layers[-1], "last"))
    return {layer.names[0]: end for layer, end in ends if any(layer is other for other in remaining)}


@dataclass
class _Candidate:
    """One tensor, under all its names, whether it turns out to be prunable or not."""

    tensor: Tensor
    kind: str
    problem: str | None  # why it cannot be pruned as it is, should it be chosen
    needs: Reach = Reach.NEVER
    names: list[str] = field(default_factory=list)
    owners: list[nn.Module | None] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)  # computed from it, one for each of its names
    effective: Effective | None = None


def _candidates_of(target: object) -> list[_Candidate]:
    """All parameters of a module, or all tensors of a mapping; tied ones joined."""
    modules: dict[str, nn.Module] = {}
    described: dict[str, _Candidate] = {}
    if isinstance(target, nn.Module):
        model = unwrap(target)
        modules = dict(model.named_modules(remove_duplicate=False))
        tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
        stored = {**tensors, **dict(model.named_buffers(remove_duplicate=False))}
    elif isinstance(target, Mapping):
        tensors = {k: v for k, v in target.items() if isinstance(k, str) and isinstance(v, Tensor)}
        stored = tensors
        if isinstance(target, Described) and target.description.network is not None:
            described = _in_network(target.description)
    elif program_kind(target):
        raise ScopeError(not_a_network(target))
    else:
        raise ScopeError(
            f"cannot prune an object of type {type(target).__name__}; give an nn.Module or a state_dict"
        )
    found: dict[Hashable, _Candidate] = {}
    for stored_name, tensor in tensors.items():
        part = find_part(stored_name, stored, modules)
        problem = None if part is None else part.problem
        if part is not None and problem is None and part.effective is None:
            continue  # such as the magnitude of weight norm
        name = stored_name if part is None else part.weight
        key: Hashable = name if problem else identity(tensor)
        parent, _, attribute = name.rpartition(".")
        known = described.get(stored_name)
        owner = modules.get(parent) if known is None else known.owners[0]
        needs = Reach.NEVER
        if _holds_weights(tensor):
            needs = _needs(name, tensor, owner, tensors) if known is None else known.needs
            needs = Reach.TENSOR if needs == Reach.BROAD and in_adapter(name, modules) else needs
        kind = (
            kind_by_name(attribute, tensor) if owner is None else type_before_parametrizations(owner).__name__
        )
        candidate = found.setdefault(key, _Candidate(tensor, kind, problem or _unusable(name, tensor)))
        if part is not None and part.effective is not None:
            candidate.effective = part.effective
            candidate.weights.append(name)
            name = stored_name
        if name not in candidate.names:  # it is there for the second part of a reparametrised weight
            candidate.names.append(name)
            candidate.owners.append(owner)
        # A layer tied to an embedding is an embedding; otherwise its most prunable name counts.
        if Reach.LAYER in (needs, candidate.needs):
            candidate.needs = Reach.LAYER
        else:
            candidate.needs = min(needs, candidate.needs)
    return list(found.values())


def _in_network(description: Description) -> dict[str, _Candidate]:
    """Name of a stored tensor -> the parameter of the network that it is, with the owner under that name."""
    assert description.network is not None
    network = unwrap(description.network)
    stored = dict(network.named_parameters(remove_duplicate=False)) | dict(network.named_buffers())
    modules = dict(network.named_modules(remove_duplicate=False))
    found = {
        name: replace(candidate, owners=[owner])
        for candidate in _candidates_of(network)
        for name, owner in zip(candidate.names, candidate.owners, strict=True)
    }
    # A buffer is never trained by a network.
    buffer = _Candidate(torch.empty(0, device="cpu"), "buffer", None, owners=[None])
    parts = {own: find_part(own, stored, modules) for own in description.names.values()}
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


def _needs(name: str, tensor: Tensor, owner: nn.Module | None, tensors: Mapping[str, Tensor]) -> Reach:
    """How directly a tensor must be asked for: by the class of its module, or by names where it has none."""
    parent, _, attribute = name.rpartition(".")
    if owner is None:
        return needs_by_name(parent, attribute, tensor, tensors)
    for classes, attributes in LAYERS:
        if isinstance(owner, classes) and re.fullmatch(attributes, attribute):
            return Reach.BROAD
    ancestors = type(owner).__mro__
    named = any(a.__name__.endswith("Experts") for a in ancestors)
    if holds_experts(attribute, tensor) or (named and attribute == "weight" and tensor.ndim == 3):
        return Reach.BROAD
    if attribute == "weight":
        if any((a.__module__, a.__name__) == ("transformers.pytorch_utils", "Conv1D") for a in ancestors):
            return Reach.BROAD
        if isinstance(owner, EMBEDDINGS):
            return Reach.LAYER
    if "bias" in attribute or any(_is_norm(a.__name__.lower()) for a in ancestors):
        return Reach.NEVER
    return Reach.TENSOR


def _is_norm(name: str) -> bool:
    return "norm" in name and "conv" not in name and "linear" not in name  # such as CosineNormLinear


def _select(candidates: list[_Candidate], pattern: Pattern, typed: bool) -> set[int]:
    """Indices of the candidates that a pattern of `scope` asks for directly enough."""
    matched = _match(candidates, pattern, "scope", typed)
    selected = {i for i, reach in matched.items() if reach >= candidates[i].needs}
    # What matches no layer that is known can only mean the others.
    selected = selected or {i for i in matched if candidates[i].needs == Reach.TENSOR}
    if selected:
        return selected
    # Tell what would be needed to have the most nearly prunable of the tensors that it does match.
    nearest = min((candidates[i] for i in matched), key=lambda c: c.needs)
    name = nearest.names[0]
    why = {
        Reach.LAYER: f"embeddings such as {name!r}; give an embedding's own name or its type",
        Reach.NEVER: f"tensors such as {name!r}; biases, norms, vectors and integers are never pruned",
    }[nearest.needs]
    raise ScopeError(f"scope pattern {shown(pattern)} matches only {why}")


def _match(candidates: list[_Candidate], pattern: Pattern, role: str, typed: bool) -> dict[int, Reach]:
    """Index of each candidate that a pattern matches under any of its names -> how directly; never empty."""
    reach_of = matcher(pattern, role, typed)
    reaches = {
        i: max(
            reach_of(name, owner)
            for names in (c.names, c.weights)
            for name, owner in zip(names, c.owners, strict=False)
        )
        for i, c in enumerate(candidates)
    }
    if matched := {i: reach for i, reach in reaches.items() if reach > Reach.NONE}:
        return matched
    raise ScopeError(f"{role} pattern {shown(pattern)} matches nothing; {_close_names(candidates, pattern)}")


def _close_names(candidates: list[_Candidate], pattern: Pattern) -> str:
    """List the names closest to a pattern that matches nothing."""
    if names_type(pattern):
        wanted = pattern.__name__ if isinstance(pattern, type) else pattern.removeprefix("type:")
        known = [type(owner).__name__ for c in candidates for owner in c.owners]
    else:
        wanted = str(pattern).removeprefix("re:")
        names = [name for c in candidates for name in c.names]
        modules = [
            ".".join(parts[:i]) for parts in (n.split(".") for n in names) for i in range(1, len(parts))
        ]
        known = names + modules
    known = list(dict.fromkeys(known))
    classes = {type(owner).__name__ for c in candidates for owner in c.owners if owner is not None}
    if wanted == pattern and wanted in classes:
        return f"for the layers of this class give 'type:{wanted}'"
    if close := close_names(wanted, known):
        return "close names are " + ", ".join(close)
    return "names here are " + ", ".join(known[:3]) + (", ..." if len(known) > 3 else "")


def _why_nothing(target: nn.Module | Mapping[str, object], candidates: list[_Candidate]) -> str:
    """Why a target has no prunable tensor of its own, and how to name those that it has."""
    other = next((c for c in candidates if c.needs == Reach.TENSOR), None)
    if isinstance(target, torch.jit.ScriptModule | torch.fx.GraphModule):
        return not_a_network(target)
    if isinstance(target, nn.Module):
        why = f"{type(target).__name__} has no prunable tensor, such as the weight of a convolution"
        if other is not None:
            why += (
                f"; weights of other classes have to be named, such as {other.names[0]}: "
                f'scope="type:{other.kind}", scope={other.names[0]!r} or a glob'
            )
        return why
    inner = [key for key, value in target.items() if isinstance(value, Mapping)]
    if inner:
        return f"the mapping has no prunable tensor at its top level; give what is under one of {inner}"
    why = "the state_dict has no prunable tensor: a floating weight of two or more dimensions"
    if other is not None:
        name = other.names[0]
        why += (
            f' whose name ends in "weight"; others have to be named, such as scope={name!r} (--scope {name})'
        )
    return why
