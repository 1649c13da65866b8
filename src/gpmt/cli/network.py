"""The network that the weights of a file belong to, where it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpmt.errors import CheckpointError, GpmtError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gpmt.formats.checkpoint import Checkpoint


@dataclass
class Network:
    """A network that holds the tensors of a checkpoint (not copies), and the MACs of its prunable tensors."""

    module: nn.Module
    macs: dict[str, int | None]


def find_network(checkpoint: Checkpoint, *, model: str | None, input_shape: str | None) -> Network | None:
    """Build the network `model`, or the one that the file itself names, around a checkpoint's tensors.

    Returns None where neither names one. Raises `GpmtError` for a name or shape that cannot be used, and
    `CheckpointError` where the weights do not fit the network.
    """
    recorded = (checkpoint.container or {}).get("gpmt")
    recorded = recorded if isinstance(recorded, Mapping) else {}
    described = recorded.get("model")
    if model is None and isinstance(described, Mapping):
        model = described.get("name")
    if model is None:
        if input_shape is not None:
            raise GpmtError(f"--input is {input_shape}, but no network is known; name it with --model")
        return None
    shape = _parse_shape(input_shape) if input_shape else tuple(recorded.get("input_shape") or ())
    if len(shape) != 3:
        raise GpmtError(
            f"--model is {model}, but the shape of its input is not known; add e.g. --input 3x224x224"
        )
    module = _build(model, checkpoint.state_dict, shape)

    from gpmt.macs import count_macs

    macs = count_macs(module, shape)
    _fill(module, checkpoint, model)
    return Network(module, macs)


def _parse_shape(text: str) -> tuple[int, int, int]:
    sizes = text.lower().replace("×", "x").split("x")
    if len(sizes) != 3 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise GpmtError(f"--input is {text}, but must be channels, height and width, such as 3x224x224")
    channels, height, width = map(int, sizes)
    return channels, height, width


def _build(name: str, state_dict: Mapping[str, Tensor], shape: tuple[int, int, int]) -> nn.Module:
    from gpmt.training.models import build

    # A number of classes that no layer has by chance shows which tensor holds the classes; its size in the file
    # is the number to build with.
    probe = 1009
    for tensor_name, tensor in build(name, num_classes=probe, input_shape=shape).state_dict().items():
        if (
            tensor.ndim > 1
            and len(tensor) == probe
            and tensor_name in state_dict
            and state_dict[tensor_name].ndim
        ):
            return build(name, num_classes=len(state_dict[tensor_name]), input_shape=shape)
    return build(name, num_classes=probe, input_shape=shape)


def _fill(module: nn.Module, checkpoint: Checkpoint, name: str) -> None:
    """Put the checkpoint's tensors into the module in place of its own."""
    expected, given = module.state_dict(), checkpoint.state_dict
    # Files of before 2018 lack these counters, which nothing here needs.
    missing = [key for key in expected if key not in given and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in given if key not in expected]
    shapes = [
        f"{key} is {list(given[key].shape)}, not {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in given and given[key].shape != tensor.shape
    ]
    if missing or unexpected or shapes:
        parts = [
            f"{len(keys):,} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for keys, what in ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
            if keys
        ]
        raise CheckpointError(
            f"{checkpoint.path} does not fit {name}: tensors {', '.join(parts)}; name the network it belongs to"
        )
    module.load_state_dict(given, strict=False, assign=True)
