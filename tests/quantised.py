"""A tensor that looks like float32 and holds int8 codes and a scale, as torchao's quantised weights and states do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class QuantisedTensor(Tensor):
    """A wrapper subclass; like most, it has no rule for views of its bits."""

    codes: Tensor
    scale: Tensor

    @staticmethod
    def __new__(cls, codes: Tensor, scale: Tensor) -> QuantisedTensor:
        made: QuantisedTensor = Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.float32)
        return made

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        self.codes, self.scale = codes, scale

    @classmethod
    def of(cls, values: Tensor) -> QuantisedTensor:
        """Quantise a float tensor."""
        scale = values.abs().max() / 127 + 1e-12
        return cls((values / scale).round().to(torch.int8), scale)

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["codes", "scale"], None

    @classmethod
    def __tensor_unflatten__(cls, parts: Any, *_: Any) -> QuantisedTensor:
        return cls(parts["codes"], parts["scale"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            return cls(args[0].codes, args[0].scale)
        plain = [a.codes * a.scale if isinstance(a, QuantisedTensor) else a for a in args]
        if func is torch.ops.aten.copy_.default:
            made = cls.of(plain[1])
            args[0].codes, args[0].scale = made.codes, made.scale
            return args[0]
        if "view" in str(func) or func._schema.is_mutable:
            raise NotImplementedError(f"{cls.__name__} has no rule for {func}")
        return func(*plain, **(kwargs or {}))
