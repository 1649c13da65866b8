"""What the layers that can be pruned have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

from gpmt.core.layers.layer_names import (
    ATTENTION,
    RECURRENT,
    Neighbours,
    holds_experts,
    names_head,
    names_router,
)
from gpmt.core.layers.roles import Role
from gpmt.torch_private import ConvNd

LAYERS: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((ConvNd, nn.Linear, nn.Bilinear), "weight"),
    ((nn.MultiheadAttention,), ATTENTION),
    ((nn.RNNBase, nn.RNNCellBase), RECURRENT),
)
"""The classes of layers that are pruned, and a regular expression for the names of their weights."""

_OTHER_LAYERS = (
    (r"transformers\.pytorch_utils\.Conv1D|timm\..*\.CondConv2d", "weight"),
    (r"transformers\..*\.DbrxExpertGLU", "w1|v1|w2"),
)
"""Classes of layers of other libraries, and their weights, as regular expressions."""
# How classes are named whose linear layers choose experts: MixtralTopKRouter, JetMoeTopKGating, HunYuanMoEV1Gate.
_ROUTER = r"\w*(Router|TopKGating)|\w*MoEV?\d*Gate"

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
KNOWN = (*(layer for layers, _ in LAYERS for layer in layers), *EMBEDDINGS)


def output_dim(kind: str) -> int:
    """Return the dimension of a weight that counts the outputs, by the class of its layer.

    Outputs come first, but for two kinds of layers, whose weights are [inputs, outputs, ...]. Where a transposed
    convolution has groups, an output of its weight stands for one of each group.

    >>> output_dim("Conv2d"), output_dim("ConvTranspose2d")
    (0, 1)
    """
    return int(kind == "Conv1D" or kind.startswith("ConvTranspose"))


@lru_cache(maxsize=4096)
def _weights_of(kind: Any) -> str | None:
    """Return a regular expression for the weights of a class of layers, None for another class."""
    for classes, attributes in LAYERS:
        if issubclass(kind, classes):
            return attributes
    names = [f"{ancestor.__module__}.{ancestor.__qualname__}" for ancestor in kind.__mro__]
    for pattern, attributes in _OTHER_LAYERS:
        if any(re.fullmatch(pattern, name) for name in names):
            return attributes
    return None


@lru_cache(maxsize=4096)
def _says(kind: Any, pattern: str) -> bool:
    """Whether the name of a class or of one that it derives from has a form."""
    return any(re.fullmatch(pattern, ancestor.__name__) for ancestor in kind.__mro__)


def holds_expert_stack(owner: nn.Module, attribute: str, tensor: Tensor) -> bool:
    """Whether a parameter holds the weights of all experts of a layer, by its own name or its module's class."""
    if holds_experts(attribute, tensor):
        return True
    kind: Any = type(owner)
    return attribute == "weight" and tensor.ndim == 3 and _says(kind, r".*Experts")


class Surroundings:
    """The modules of a network, and what they tell of the tensors inside them.

    Args:
        modules: all modules by name.
        tensors: all parameters by name.
    """

    def __init__(self, modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
        self.modules = modules
        self._neighbours = Neighbours(tensors)
        kinds: dict[str, Any] = {name: type(module) for name, module in modules.items() if name}
        self._routers = tuple(f"{name}." for name, kind in kinds.items() if _says(kind, _ROUTER))
        self._heads = {id(weight) for module in modules.values() for weight in _head_weights(module)}

    def role(self, name: str, tensor: Tensor, owner: nn.Module) -> Role:
        """Return what a parameter is for.

        Args:
            name: its name.
            tensor: the parameter.
            owner: its module.
        """
        attribute = name.rpartition(".")[2]
        kind: Any = type(owner)
        if self._in_router(name):
            return Role.NO_WEIGHTS if "bias" in attribute else Role.ROUTER
        weights = _weights_of(kind)
        if (weights and re.fullmatch(weights, attribute)) or holds_expert_stack(owner, attribute, tensor):
            is_head = id(tensor) in self._heads or names_head(name, tensor, self._neighbours)
            return Role.HEAD if is_head else Role.LAYER
        if attribute == "weight" and isinstance(owner, EMBEDDINGS):
            return Role.EMBEDDING
        if "bias" in attribute:
            return Role.NO_WEIGHTS
        # Some are layers by their names, such as CosineNormLinear.
        return Role.NORM if _says(kind, r"(?i)(?!.*(conv|linear)).*norm.*") else Role.OTHER

    def _in_router(self, name: str) -> bool:
        if names_router(name, self._neighbours):
            return True
        return name.startswith(self._routers)


def _head_weights(module: nn.Module) -> Iterator[Tensor]:
    """Yield the weights that a network of transformers says give its outputs for a vocabulary."""
    if not hasattr(type(module), "get_output_embeddings"):
        return
    network: Any = module
    try:
        head = network.get_output_embeddings()
    except Exception:  # some networks have no such layer, and each says so in its own way
        return
    if isinstance(head, nn.Module):
        for name, weight in head.named_parameters():
            if re.fullmatch(r"(\d+\.)?weight", name):
                yield weight
