"""Loading weights from a file into a network with the same names and shapes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.load import load


def load_weights(
    network: nn.Module, checkpoint: Path | Checkpoint, *, name: str, assign: bool = False
) -> None:
    """Load a checkpoint, or the file at a path, whose tensors must have the names and shapes of `network`.

    With `assign` the checkpoint's tensors replace those of the network, instead of being copied into them.
    Errors call the network `name`.
    Raises CheckpointError for a file that cannot be read or holds other tensors; nothing is loaded then.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load(checkpoint)
    own, given = network.state_dict(), checkpoint.state_dict
    # Files of before 2018 lack the batch norms' counters, which nothing here needs.
    missing = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in given if key not in own]
    reshaped = [key for key in own if key in given and given[key].shape != own[key].shape]
    if reshaped and not missing and not unexpected:
        _check_classes(checkpoint.path, {key: (given[key], own[key]) for key in reshaped}, name)
    shapes = [f"{key} is {list(given[key].shape)}, not {list(own[key].shape)}" for key in reshaped]
    if missing or unexpected or shapes:
        parts = [
            f"{len(keys):,} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for keys, what in ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
            if keys
        ]
        raise CheckpointError(
            f"{checkpoint.path} does not fit {name}: tensors {', '.join(parts)}; name the network it belongs to, "
            "or give weights of this one"
        )
    network.load_state_dict(given, strict=False, assign=assign)


def _check_classes(path: Path, pairs: Mapping[str, Sequence[Tensor]], name: str) -> None:
    """Raise CheckpointError where the number of classes alone differs: one number of outputs, in all such tensors."""
    counts = {(given.shape[:1], own.shape[:1]) for given, own in pairs.values()}
    if len(counts) > 1 or any(given.shape[1:] != own.shape[1:] for given, own in pairs.values()):
        return
    key, (given, own) = next(iter(pairs.items()))
    raise CheckpointError(
        f"{path} has {key} of shape {tuple(given.shape)}, but {name} for data of {len(own)} classes needs "
        f"{tuple(own.shape)}; check data and model"
    )
