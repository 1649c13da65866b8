"""Which tensors of a network can be pruned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gpmt.core.blocks.blocks import BlockRule, Blocks
from gpmt.core.layers.axes import Axes
from gpmt.core.layers.reach import Reach
from gpmt.core.layers.roles import Role
from gpmt.core.memory import refuse_overlap
from gpmt.core.patterns import Patterns, listed
from gpmt.core.scope.block_requests import requested
from gpmt.core.scope.candidates import Candidate, Candidates, find_candidates
from gpmt.core.scope.choice import match_candidates, select
from gpmt.core.scope.coverage import EXCLUDED, NOT_ASKED, Coverage, Outside, sorted_by_size
from gpmt.core.scope.described import Described
from gpmt.core.scope.judgement import BY_NAMES, Judgement
from gpmt.core.scope.reparametrised import Effective
from gpmt.core.shards import is_shared
from gpmt.errors import ScopeError
from gpmt.html_tables import html_table
from gpmt.model_tools import not_a_network, unwrap


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
        axes: name -> which dimensions of the tensor count its outputs and inputs.
        outside: the other tensors of two or more dimensions, with the reason, the largest first.
    """

    tensors: dict[str, Tensor]
    aliases: dict[str, tuple[str, ...]]
    kinds: dict[str, str]
    judged: Judgement = BY_NAMES
    ends: dict[str, str] = field(default_factory=dict)
    effective: dict[str, Effective] = field(default_factory=dict)
    blocks: dict[str, Blocks] = field(default_factory=dict)
    axes: dict[str, Axes] = field(default_factory=dict)
    outside: tuple[Outside, ...] = ()

    @property
    def coverage(self) -> Coverage:
        """How much of the network's weights the scope holds."""
        return Coverage(self.numel, self.outside)

    @property
    def numel(self) -> int:
        """Number of prunable weights; tied tensors count once."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def _repr_html_(self) -> str:
        rows = [
            [name, self.kinds[name], "×".join(map(str, tensor.shape)), tensor.numel()]
            for name, tensor in self.tensors.items()
        ]
        return html_table(
            ["tensor", "layer", "shape", "weights"],
            rows,
            title=f"{len(rows):,} prunable tensors",
            notes=[str(self.judged), *self.coverage.lines()],
            total=["total", "", "", self.numel],
        )


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
    `Conv1D`, attention projections, recurrent layers, the kernels of timm's `CondConv2d`, and experts in one tensor
    (three-dimensional `gate_up_proj`, `gate_proj`, `up_proj`, `down_proj`), trainable or frozen; never biases, norms,
    integers. Only where `scope` asks for them by name:

    * embeddings and layers tied to one: by the name of the tensor or of the embedding itself, or by their type;
    * output heads that are not tied: what `get_output_embeddings()` of a network of transformers returns, and
      `lm_head`; by the name of the tensor or the layer. The classifier of other networks is a layer as all others;
    * routers, which choose among experts: classes such as `MixtralTopKRouter`, `router`, and `gate` beside
      `experts`; by the name of the tensor;
    * adapters (LoRA).

    From a state_dict, where only names and shapes are known: floating tensors of two or more dimensions whose
    last name is `weight` or one of the weight names of attention and recurrent layers and of experts, unless the
    layer (the last name before it that is not a number) is named like a norm (`norm1`, `ln_f`), is a router
    (`router`, or `gate` beside `experts`), is an output head (`lm_head`; `output`, `decoder`, `embed_out` and the
    like with the shape of an embedding) or, with two dimensions and without a bias, is named like an embedding
    (`embed_tokens`, `word_embeddings`, `wte`). Entries that are not tensors are ignored. The weights that `gpmt.load`
    reads beside a config.json of transformers are judged as those of the network (`Described`).

    Tensors that hold several layers are divided into blocks (`Scope.blocks`): by the table in
    `core/blocks/block_rules.py` for modules, and by the rules in `core/blocks/block_names.py` for names.

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
        blocks: how tensors in scope divide, where that is not known or is to be another way: pattern -> labels or a
            number of equal parts along the outputs (the first dimension; the second of `Conv1D` and transposed
            convolutions), a `Split`, `Blocks`, or None for one block. The first match wins.
        shared: take tensors that several processes share (`DTensor`) too, as they are; otherwise they are refused.

    Raises:
        ScopeError: nothing is in scope, a pattern is malformed or matches nothing, blocks do not fit, or a chosen
            tensor cannot be pruned as it is (reparametrised, not yet initialised, complex, sparse, 8-bit floating,
            or in memory that another one views differently).

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
    >>> list(find_scope(net).tensors)
    ['0.weight', '3.weight']
    >>> find_scope(net, exclude="type:Linear").numel
    216
    >>> find_scope(nn.MultiheadAttention(4, 2)).blocks["in_proj_weight"].names("in_proj_weight")
    ['in_proj_weight.q', 'in_proj_weight.k', 'in_proj_weight.v']
    """
    found = find_candidates(target)
    candidates = found.rows
    if not candidates:
        raise ScopeError(_why_nothing(target, []))
    judged = _judgement(target)
    typed = judged.by == "layers"
    chosen = {i for i, c in enumerate(candidates) if c.needs == Reach.BROAD}
    if scope is not None:
        if not scope:
            raise ScopeError("scope is empty; leave it out to take every prunable tensor")
        chosen = {i for pattern in listed(scope) for i in select(candidates, pattern, typed)}
    dropped = {
        i for pattern in listed(exclude) for i in match_candidates(candidates, pattern, "exclude", typed)
    }
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
                f"{candidate.name} is shared by several processes; gather it first with full_tensor(), "
                "or exclude it"
            )
    refuse_overlap([c.name for c in remaining], {c.name: c.tensor for c in candidates if c.holds_weights})
    return Scope(
        tensors={c.name: c.tensor for c in remaining},
        aliases={c.name: tuple(c.names[1:]) for c in remaining if len(c.names) > 1},
        kinds={c.name: c.kind for c in remaining},
        judged=judged,
        ends=_ends(candidates, remaining),
        effective={c.name: c.effective for c in remaining if c.effective is not None},
        blocks=_blocks(found, remaining, blocks, typed),
        axes={c.name: found.axes(c) for c in remaining},
        outside=_outside(candidates, chosen, dropped),
    )


def _blocks(
    found: Candidates, remaining: list[Candidate], rules: Mapping[str, BlockRule] | None, typed: bool
) -> dict[str, Blocks]:
    """Return the divisions of the tensors in scope, as the user wants them or as they are known."""
    wanted = requested(found.rows, remaining, rules, typed) if rules else {}
    divided = {c.name: wanted[c.name] if c.name in wanted else found.blocks(c) for c in remaining}
    return {name: blocks for name, blocks in divided.items() if blocks is not None and blocks.splits}


def _outside(candidates: list[Candidate], chosen: set[int], dropped: set[int]) -> tuple[Outside, ...]:
    """Return the tensors of weights that are not in the scope, with the reason."""
    rows = []
    for i, candidate in enumerate(candidates):
        role = candidate.role
        if (i in chosen and i not in dropped) or role is Role.NO_WEIGHTS or is_lazy(candidate.tensor):
            continue
        reason = NOT_ASKED if role is Role.LAYER else role.value
        if i in dropped:
            reason = EXCLUDED
        rows.append(Outside(candidate.name, candidate.tensor.numel(), reason, role.needs < Reach.NEVER))
    return sorted_by_size(rows)


def _exclude_all(remaining: list[Candidate]) -> str:
    names = [candidate.name for candidate in remaining if candidate.problem is not None]
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


def _ends(candidates: list[Candidate], remaining: list[Candidate]) -> dict[str, str]:
    """Return which of the remaining tensors are the first and the last layer of the network."""
    layers = [candidate for candidate in candidates if candidate.role in (Role.LAYER, Role.HEAD)]
    if len(layers) < 2:
        return {}
    ends = ((layers[0], "first"), (layers[-1], "last"))
    return {layer.name: end for layer, end in ends if any(layer is other for other in remaining)}


def _why_nothing(target: nn.Module | Mapping[str, object], candidates: list[Candidate]) -> str:
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
