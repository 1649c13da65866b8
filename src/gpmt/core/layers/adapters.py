"""Adapters, small layers trained beside the frozen ones of a network: LoRA and its relatives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

# lora_A (peft, litgpt), lora_a (torchtune), lora_down (kohya), to_q_lora (diffusers), loras and adapters
# (AdapterHub), oft_R (peft).
_ADAPTER_NAME = r"(.*_)?loras?(_.*)?|adapters|oft_r"


def with_adapters(modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
    """Return the modules that say which of their own hold adapters, as those of peft do."""
    return {name: module for name, module in modules.items() if hasattr(type(module), "adapter_layer_names")}


def in_adapter(name: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a tensor belongs to an adapter, by its name, or by what the layers of peft say of themselves.

    >>> in_adapter("q_proj.lora_A.default.weight", {}), in_adapter("q_proj.base_layer.weight", {})
    (True, False)
    """
    parts = name.split(".")
    if any(_names_adapter(part) for part in parts[:-1]):
        return True
    if not modules:
        return False
    layers = (modules.get(".".join(parts[:depth])) for depth in range(len(parts)))
    return any(part in _adapter_names(layer) for part, layer in zip(parts, layers, strict=True))


@lru_cache(maxsize=1 << 14)
def _names_adapter(part: str) -> bool:
    return bool(re.fullmatch(_ADAPTER_NAME, part.lower()))


def _adapter_names(layer: nn.Module | None) -> tuple[str, ...]:
    """Return the names of the adapters in a layer of peft; other layers have none."""
    names = getattr(type(layer), "adapter_layer_names", ())
    return names if isinstance(names, tuple) else ()
