"""Building the network that the weights of a file belong to, where it is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpmt.errors import CheckpointError, GpmtError, RecipeError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gpmt.formats.checkpoint import Checkpoint

# What is believed of a file: an input of a size beyond these would be allocated.
_MAX_DIMENSIONS, _MAX_SIZE, _MAX_VALUES = 4, 2**16, 2**26


@dataclass
class Network:
    """A network around the tensors of a checkpoint.

    Attributes:
        module: the network; its tensors are those of the checkpoint, not copies.
        macs: MACs of its prunable tensors by name, with all their weights.
        example: one input of zeros with a batch dimension of 1.
    """

    module: nn.Module
    macs: dict[str, int | None]
    example: Tensor | dict[str, Tensor]


def find_network(checkpoint: Checkpoint, *, model: str | None, input_shape: str | None) -> Network | None:
    """Build the network `model`, or the one that the file itself names, around a checkpoint's tensors.

    Returns None where neither names one. Of ``hf:FOLDER`` that is not a classifier it returns None too, since no
    input of it is known, and the state_dict gets to know the layers of the network (`Described`). Raises `GpmtError`
    for a name or shape that cannot be used, and `CheckpointError` where the weights do not fit the network.
    """
    if model is None:
        model = recorded_name(checkpoint)
    if model is None:
        if input_shape is not None:
            raise GpmtError(f"--input is {input_shape}, but no network is known; name it with --model")
        return None

    if model.startswith("hf:") and not _is_classifier(checkpoint, model):
        _describe(checkpoint, Path(model.removeprefix("hf:")).expanduser())
        return None

    from gpmt.macs import count_macs
    from gpmt.training.models import check_name, example, usual_shape
    from gpmt.training.weights import load_weights

    check_name(model)
    shape = parse_shape(input_shape) if input_shape else _recorded_shape(checkpoint)
    shape = shape or usual_shape(model) or ()
    if not shape:
        raise GpmtError(
            f"--model is {model}, but the shape of its input is not known; add e.g. --input 3x224x224"
        )
    module = _build(model, checkpoint.state_dict, shape)
    one = example(module, shape)
    macs = count_macs(module, one)
    load_weights(module, checkpoint, name=model, assign=True)
    return Network(module, macs, one)


def require_network(checkpoint: Checkpoint, *, model: str | None, input_shape: str | None) -> Network:
    """Return what `find_network` returns; raise `CheckpointError` where nothing names the network."""
    network = find_network(checkpoint, model=model, input_shape=input_shape)
    if network is None and model is not None:
        raise CheckpointError(
            f"--model is {model}, whose network is not a classifier, so its input is not known; give a classifier, "
            "or export the network from Python"
        )
    if network is None:
        raise CheckpointError(
            f"{checkpoint.path} does not say which network it belongs to; name it with --model, and --input"
        )
    return network


def network_and_example(
    checkpoint: Checkpoint, *, model: str | None, input_shape: str | None
) -> tuple[nn.Module, Tensor | dict[str, Tensor]]:
    """Return the network of a checkpoint with its weights, and an input of zeros.

    Beyond what `require_network` returns, it may be any network of transformers whose folder holds the weights.
    """
    network = find_network(checkpoint, model=model, input_shape=input_shape)
    if network is not None:
        return network.module, network.example
    stored = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    folder = stored if model is None else Path(model.removeprefix("hf:")).expanduser()
    if not (folder / "config.json").exists():
        raise CheckpointError(
            f"{checkpoint.path} does not say which network it belongs to; name it with --model, and --input"
        )
    if folder.resolve() != stored.resolve():
        raise CheckpointError(
            f"--model is {model}, but paths are followed through the weights of its own folder; give {folder} as FILE"
        )

    from gpmt.formats.hub_example import example_input, load_network

    module = load_network(folder)
    return module, example_input(module, folder)


def makes_classifier(name: str) -> bool:
    """Return whether ``hf:FOLDER`` is a classifier, whose input is known."""
    from gpmt.training.models import check_name

    try:
        check_name(name)
    except RecipeError:
        return False
    return True


def _is_classifier(checkpoint: Checkpoint, name: str) -> bool:
    """Return whether weights are those of a classifier, not of the class that the config of ``hf:FOLDER`` names."""
    from gpmt.formats.hub_network import build_network, misfit

    if not makes_classifier(name):
        return False
    try:
        network = build_network(Path(name.removeprefix("hf:")).expanduser())
    except CheckpointError:
        return True
    kind = type(network).__name__
    if kind.endswith(("ForImageClassification", "ForSequenceClassification")):
        return True
    return misfit(network, checkpoint.state_dict) is not None


def _describe(checkpoint: Checkpoint, folder: Path) -> None:
    """Give the state_dict of a checkpoint the network of a folder; raise `CheckpointError` where it does not fit."""
    from gpmt.formats.hub_network import describe

    checkpoint.state_dict = described = describe(folder, checkpoint.state_dict)
    if described.description.network is None:
        raise CheckpointError(f"--model is hf:{folder}, but {described.description.why}")


def recorded_name(checkpoint: Checkpoint) -> str | None:
    """Return the network that a file names, if it can be built here without running code that the file chose."""
    from gpmt.training.models import check_name, runs_own_code

    described = _record(checkpoint).get("model")
    name = described.get("name") if isinstance(described, Mapping) else None
    if not isinstance(name, str) or runs_own_code(name):
        return None
    try:
        return check_name(name)
    except RecipeError:
        return None


def _record(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return what a run wrote into its file beside the weights."""
    recorded = (checkpoint.container or {}).get("gpmt")
    return recorded if isinstance(recorded, Mapping) else {}


def _recorded_shape(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Return the input shape that a file names, () where it names none of a size that a network takes."""
    sizes = _record(checkpoint).get("input_shape")
    if not isinstance(sizes, list | tuple) or len(sizes) > _MAX_DIMENSIONS:
        return ()
    valid = all(type(size) is int and 0 < size <= _MAX_SIZE for size in sizes)
    return tuple(sizes) if valid and math.prod(sizes) <= _MAX_VALUES else ()


def parse_shape(text: str) -> tuple[int, ...]:
    """Return the sizes that --input names. Raises `GpmtError` for other texts."""
    sizes = text.lower().replace("×", "x").split("x")
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise GpmtError(f"--input is {text}, but must be sizes such as 3x224x224 (channels, height, width)")
    return tuple(map(int, sizes))


def _build(name: str, state_dict: Mapping[str, Tensor], shape: tuple[int, ...]) -> nn.Module:
    from gpmt.training.models import construct

    # Built with a number of classes that no other layer has, the network shows which tensor has a row for each
    # class; that tensor's size in the file is the number of classes.
    probe = 1009
    for tensor_name, tensor in construct(name, num_classes=probe, input_shape=shape).state_dict().items():
        if (
            tensor.ndim > 1
            and len(tensor) == probe
            and tensor_name in state_dict
            and state_dict[tensor_name].ndim
        ):
            return construct(name, num_classes=len(state_dict[tensor_name]), input_shape=shape)
    return construct(name, num_classes=probe, input_shape=shape)
