"""What a tensor of a state_dict is, judged by its name, its shape and the names beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

from gpmt.core.reach import Reach

ATTENTION = r"in_proj_weight|[qkv]_proj_weight"
RECURRENT = r"weight_(ih|hh|hr)(_l\d+(_reverse)?)?"
# How norms and embeddings are named: word_embeddings, token_emb, pos_embed, embed_tokens, wte, mask_tokens, codebook,
# relative_attention_bias; but not convnormrelu, patch_embedding or embed_out, which are layers.
_NORM = r"(?!.*conv).*norm.*|ln(_.*|\d*)|grn"
_EMBEDDING = (
    r"(?!.*patch)(.*(emb|embed|embedding|embedder)s?_?\d*|embed_(?!out|proj).*|w[tp]e|.*_bias|bias_values"
    r"|.*_embeds?_layers?|(.*_)?(tokens?|table|codebook|quer(y|ies)_feat(ures)?)|pe_[kv])"
)
_EXPERTS = r"(gate|up|gate_up|down)_proj"
_ROUTER = r"gate|router"


class Shaped(Protocol):
    """A tensor, or what stands for one."""

    @property
    def ndim(self) -> int:
        """Number of dimensions."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each."""


def _has_shape(tensor: Shaped) -> bool:
    """Whether a tensor is not one that a lazy layer will make when it is first called."""
    return not hasattr(tensor, "materialize")


def holds_experts(attribute: str, tensor: Shaped) -> bool:
    """Whether a parameter holds the matrices of all experts of a layer: three dimensions, and a matrix's own name."""
    return _has_shape(tensor) and tensor.ndim == 3 and bool(re.fullmatch(_EXPERTS, attribute))


def needs_by_name(parent: str, attribute: str, tensor: Shaped, beside: Mapping[str, Shaped]) -> Reach:
    """How directly an entry of a state_dict must be asked for.

    Args:
        parent: the name of its layer.
        attribute: its own name, the last part.
        tensor: the entry.
        beside: all tensors by name. Only a layer has a bias, and only a router lies beside experts.
    """
    if "bias" in attribute:
        return Reach.NEVER
    if holds_experts(attribute, tensor):
        return Reach.BROAD
    if not re.fullmatch(f"weight|{ATTENTION}|{RECURRENT}", attribute):
        return Reach.TENSOR
    # The layer's own name: the last that is not an index into a list of layers.
    layer = next((part for part in reversed(parent.split(".")) if not part.isdigit()), "").lower()
    if re.fullmatch(_NORM, layer) or (re.fullmatch(_ROUTER, layer) and _lies_by_experts(parent, beside)):
        return Reach.TENSOR
    if not _has_shape(tensor) or tensor.ndim != 2 or not re.fullmatch(_EMBEDDING, layer):
        return Reach.BROAD
    bias = beside.get(f"{parent}.bias")
    return Reach.BROAD if bias is not None and bias.shape == tensor.shape[:1] else Reach.LAYER


def kind_by_name(attribute: str, tensor: Shaped) -> str:
    """Return what the layer of an entry is: attention, recurrent, a convolution or a matrix."""
    if re.fullmatch(ATTENTION, attribute):
        return "attention"
    if re.fullmatch(RECURRENT, attribute):
        return "recurrent"
    if holds_experts(attribute, tensor):
        return "experts"
    return "convolution" if _has_shape(tensor) and tensor.ndim > 2 else "matrix"


def _lies_by_experts(parent: str, beside: Mapping[str, Shaped]) -> bool:
    """Whether a layer chooses among experts, which lie in the same block."""
    block = parent.rpartition(".")[0]
    return any(name.startswith(f"{block}.experts.") for name in beside)
