"""Noting what makes a program wait for its device; the meta device stands for one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default)
READS = (aten._local_scalar_dense.default, aten.nonzero.default)
FROM_NUMBERS = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)


@contextmanager
def noting_waits() -> Iterator[list[str]]:
    """Yield a list of the calls inside the block that copy from one device to another, or read a value.

    A copy waits for the device unless its memory is pinned.
    """
    found: list[str] = []
    with _Calls(found), _Operators(found):
        yield found


class _Calls(TorchFunctionMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in FROM_NUMBERS and result.device.type != "cpu":
            self._found.append(func.__name__)
        return result


class _Operators(TorchDispatchMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        devices = {leaf.device for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)}
        if (func in COPIES and len(devices) > 1) or func in READS:
            self._found.append(str(func))
        return result
