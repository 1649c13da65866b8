"""What ``gpmt export hub`` writes: the weights or the network, and the folder whose other files go with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpmt.cli.network import find_network, makes_classifier, recorded_name
from gpmt.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gpmt.formats.checkpoint import Checkpoint


@dataclass(frozen=True)
class HubSource:
    """What goes into the folder.

    Attributes:
        weights: the network, or the weights under the names of a folder.
        beside: the folder with the config, tokenizer and other files of the network; None where there is none.
        without: keys of its config.json that are not true of these weights.
    """

    weights: nn.Module | Mapping[str, Tensor]
    beside: Path | None = None
    without: Collection[str] = ()


def find_hub_source(checkpoint: Checkpoint, *, model: str | None, input_shape: str | None) -> HubSource:
    """Find the network of a checkpoint: the one named, the one that the file names, or that of its own folder.

    Of ``hf:FOLDER`` it is the class that `architectures` in the folder's config.json names, whatever its task, where
    the weights are of that class; else the classifier that `gpmt run` makes of the folder.

    Raises:
        CheckpointError: weights that are not of the network that was named.
        GpmtError: a name or shape that cannot be used.
    """
    from gpmt.formats.file_format import is_hub_folder
    from gpmt.formats.hub_folder import COMPRESSION, CONFIG, NAME

    named = model or recorded_name(checkpoint)
    prefix, _, rest = (named or "").partition(":")
    if prefix == "hf":
        folder = Path(rest).expanduser()
        problem = _misfit(checkpoint, folder)
        if problem is None:
            return HubSource(checkpoint.state_dict, folder)
        if not makes_classifier(f"hf:{rest}"):
            raise CheckpointError(problem)
        network = find_network(checkpoint, model=named, input_shape=input_shape)
        assert network is not None
        return HubSource(network.module, folder)
    network = find_network(checkpoint, model=model, input_shape=input_shape)
    if network is not None:
        return HubSource(network.module)
    whole = is_hub_folder(checkpoint.path)
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    if (folder / CONFIG).is_file() and (whole or _misfit(checkpoint, folder) is None):
        return HubSource(checkpoint.state_dict, folder, () if checkpoint.source == NAME else COMPRESSION)
    return HubSource(checkpoint.state_dict)


def _misfit(checkpoint: Checkpoint, folder: Path) -> str | None:
    """Return why the weights are not those of the network in a folder's config.json; None where they are."""
    from gpmt.formats.hub_network import build_network, misfit

    try:
        network = build_network(folder)
    except CheckpointError as error:
        return str(error)
    found = misfit(network, checkpoint.state_dict)
    if found is None or _shapes(checkpoint.state_dict) == _shapes_in(folder):
        return None
    return (
        f"{checkpoint.path} does not fit {type(network).__name__} of {folder}: {found}; name its own folder"
    )


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _shapes_in(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """Return the shapes of the tensors in a folder, which may lack some of its network; None where it has none."""
    from gpmt.formats.hub_folder import read_hub_folder

    try:
        return _shapes(read_hub_folder(folder).state_dict)
    except CheckpointError:
        return None
