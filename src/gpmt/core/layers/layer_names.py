"""What a tensor of a state_dict is, judged by its name, its shape and the names beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Protocol

from gpmt.core.layers.roles import Role

ATTENTION = r"in_proj_weight|[qkv]_proj_weight"
RECURRENT = r"weight_(ih|hh|hr)(_l\d+(_reverse)?)?"
_WEIGHTS = f"weight|{ATTENTION}|{RECURRENT}"
# How norms and embeddings are named: word_embeddings, token_emb, pos_embed, embed_tokens, wte, mask_tokens, codebook,
# relative_attention_bias; but not convnormrelu, patch_embedding or embed_out, which are layers.
_NORM = r"(?!.*conv).*norm.*|ln(_.*|\d*)|grn"
_EMBEDDING = (
    r"(?!.*patch)(.*(emb|embed|embedding|embedder)s?_?\d*|embed_(?!out|proj).*|w[tp]e|.*_bias|bias_values"
    r"|.*_embeds?_layers?|(.*_)?(tokens?|table|codebook|quer(y|ies)_feat(ures)?)|pe_[kv])"
)
_EXPERTS = r"(gate|up|gate_up|down)_proj"
_STACKED_EXPERTS = r"experts\.mlp\.(w1|v1|w2)"  # of DBRX, one below the other
# Linear layers that choose experts, or say how much of them counts; the first kind only beside experts.
_ROUTER_BY_EXPERTS = r"gate|shared_expert_gate"
_ROUTER = r"router|router_gate|routing_fn|gate_network"
# Heads: the first kind by its name alone, the others where they also have the shape of an embedding of words.
_HEAD = r"(.*\.)?lm_heads?|lm_heads?\.\d+"
_STACKED_HEADS = r"(.*\.)?codebooks_head"  # of CSM, a matrix for each codebook
_HEAD_BY_SHAPE = (
    r"(.*\.)?(\w+_lm_head|lm_loss|embed_out|output|output_(projection|layer)|proj_out|vocab_projector|unembed|to_logits"
    r"|decoder|head|generator|(pred_layer|lm_head)\.(out_)?proj)"
)


@lru_cache(maxsize=1 << 14)
def _fits(pattern: str, part: str) -> bool:
    """Whether a part of a name fits a pattern; a network has many names, but few different parts."""
    return bool(re.fullmatch(pattern, part))


def _last_two(name: str) -> str:
    return ".".join(name.rsplit(".", 2)[-2:])


class Shaped(Protocol):
    """A tensor, or what stands for one."""

    @property
    def ndim(self) -> int:
        """Number of dimensions."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each."""


class Neighbours:
    """All entries of a state_dict, and what their names and shapes tell of one another."""

    def __init__(self, entries: Mapping[str, Shaped]) -> None:
        self.entries = entries

    @cached_property
    def with_experts(self) -> set[str]:
        """The blocks, by name, in which experts lie."""
        marker = ".experts."
        return {name[: name.index(marker)] for name in self.entries if marker in name} | (
            {""} if any(name.startswith("experts.") for name in self.entries) else set()
        )

    @cached_property
    def vocabularies(self) -> set[tuple[int, ...]]:
        """The shapes of embeddings of words, which are more than the elements of each; not of positions."""
        return {
            tuple(tensor.shape)
            for name, tensor in self.entries.items()
            if name.endswith("weight") and _is_matrix(tensor) and tensor.shape[0] > tensor.shape[1]
            if _fits(_EMBEDDING, layer := layer_of(name)) and "pos" not in layer and layer != "wpe"
        }


def _has_shape(tensor: Shaped) -> bool:
    """Whether a tensor is not one that a lazy layer will make when it is first called."""
    return not hasattr(tensor, "materialize")


def _is_matrix(tensor: Shaped) -> bool:
    return _has_shape(tensor) and tensor.ndim == 2


def layer_of(name: str) -> str:
    """Return the own name of the layer of a tensor, the last before the tensor's that is not a number, in lower case.

    >>> layer_of("blocks.3.Norm.1.weight")
    'norm'
    """
    return next((part for part in reversed(name.split(".")[:-1]) if not part.isdigit()), "").lower()


def holds_experts(attribute: str, tensor: Shaped) -> bool:
    """Whether a parameter holds the matrices of all experts of a layer: three dimensions, and a matrix's own name."""
    return _has_shape(tensor) and tensor.ndim == 3 and _fits(_EXPERTS, attribute)


def names_router(name: str, neighbours: Neighbours) -> bool:
    """Whether a tensor belongs to what chooses among experts: a `router`, or a `gate` beside `experts`.

    >>> names_router("mlp.gate.weight", Neighbours({})), names_router("mlp.router.layer.weight", Neighbours({}))
    (False, True)
    """
    if "rout" not in name and "gate" not in name:
        return False
    parts = name.split(".")[:-1]
    for index, part in enumerate(parts):
        if _fits(_ROUTER, part):
            return True
        if _fits(_ROUTER_BY_EXPERTS, part) and ".".join(parts[:index]) in neighbours.with_experts:
            return True
    return False


def names_head(name: str, tensor: Shaped, neighbours: Neighbours) -> bool:
    """Whether matrices give the outputs for a vocabulary: `lm_head`, or a usual name and an embedding's shape."""
    if not name.endswith("weight"):
        return False
    layer = _last_two(name.rpartition(".")[0])
    if not _is_matrix(tensor):
        return _fits(_STACKED_HEADS, layer)
    return _fits(_HEAD, layer) or (
        tuple(tensor.shape) in neighbours.vocabularies and _fits(_HEAD_BY_SHAPE, layer)
    )


def role_by_name(name: str, tensor: Shaped, neighbours: Neighbours) -> Role:
    """Return what an entry of a state_dict is for.

    Args:
        name: its name.
        tensor: the entry.
        neighbours: all entries. Only a layer has a bias, and only a router lies beside experts.
    """
    parent, _, attribute = name.rpartition(".")
    if "bias" in attribute:
        return Role.NO_WEIGHTS
    if holds_experts(attribute, tensor) or _fits(_STACKED_EXPERTS, f"{_last_two(parent)}.{attribute}"):
        return Role.LAYER
    if not _fits(_WEIGHTS, attribute):
        return Role.OTHER
    layer = layer_of(name)
    if _fits(_NORM, layer):
        return Role.NAMED_LIKE_NORM
    if names_router(name, neighbours):
        return Role.ROUTER
    if names_head(name, tensor, neighbours):
        return Role.HEAD
    if not _is_matrix(tensor) or not _fits(_EMBEDDING, layer):
        return Role.LAYER
    bias = neighbours.entries.get(f"{parent}.bias")
    return Role.LAYER if bias is not None and bias.shape == tensor.shape[:1] else Role.EMBEDDING


def kind_by_name(attribute: str, tensor: Shaped) -> str:
    """Return what the layer of an entry is: attention, recurrent, a convolution or a matrix."""
    if _fits(ATTENTION, attribute):
        return "attention"
    if _fits(RECURRENT, attribute):
        return "recurrent"
    if holds_experts(attribute, tensor):
        return "experts"
    return "convolution" if _has_shape(tensor) and tensor.ndim > 2 else "matrix"
