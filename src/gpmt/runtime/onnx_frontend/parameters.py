"""The names of tensors in an ONNX file as names of parameters in a tree of modules."""

from __future__ import annotations

from torch import Tensor, nn

_LONGEST, _DEEPEST = 200, 16


def add_parameter(root: nn.Module, name: str, data: Tensor) -> nn.Parameter:
    """Add a parameter under a name such as "layer1.0.conv.weight", or one like it where that cannot be."""
    parameter = nn.Parameter(data, requires_grad=False)
    parts = [part or "_" for part in name[:_LONGEST].split(".")]
    *path, last = parts if len(parts) <= _DEEPEST else ["_".join(parts)]
    place = root
    for part in path:
        found = dict(place.named_children()).get(part)
        if found is None:
            part = _free(place, part)
            found = nn.Module()
            place.add_module(part, found)
        place = found
    place.register_parameter(_free(place, last), parameter)
    return parameter


def _free(place: nn.Module, name: str) -> str:
    """Return a name that is no attribute yet."""
    number, found = 0, name
    while hasattr(place, found):
        number += 1
        found = f"{name}_{number}"
    return found
