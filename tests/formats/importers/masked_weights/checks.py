"""What is asked of every importer of masked weights."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.formats.checkpoints import FIXTURES, source_of
from tests.formats.fixtures.tiny_network import Tiny, images
from torch import Tensor, nn

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint, find_weights, load_checkpoint, save_checkpoint
from gpmt.formats.torch_file import read_torch
from gpmt.masks import Masks


def fixture(name: str, further: Iterable[tuple[Any, str]] = ()) -> Checkpoint:
    return find_weights(FIXTURES / name, read_torch(FIXTURES / name, further))


def checkpoint(weights: dict[str, Tensor], **fields: Any) -> Checkpoint:
    return Checkpoint(Path("a.pt"), weights, original=weights, **fields)


def recognised(importer: Any, read: Checkpoint) -> bool:
    return bool(importer.recognises(source_of(read)))


def imported(importer: Any, read: Checkpoint) -> Checkpoint:
    plain = importer.read(source_of(read))
    assert isinstance(plain, Checkpoint)
    return plain


def converted(importer: Any, read: Checkpoint) -> Checkpoint:
    """What the importer makes of a checkpoint, which must stay as it is."""
    assert recognised(importer, read)
    tensors = {name: tensor.clone() for name, tensor in read.state_dict.items()}
    outside = list(read.container or {}), dict(read.metadata), read.source, read.masks, read.original
    plain = imported(importer, read)
    assert list(read.state_dict) == list(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(read.state_dict[name], tensor), name
    assert outside == (list(read.container or {}), read.metadata, read.source, read.masks, read.original)
    assert plain.original == {}
    assert (plain.path, plain.key, plain.prefix) == (read.path, read.key, read.prefix)
    for name, mask in (plain.masks or {}).items():
        pruned = plain.state_dict[name][~mask]
        assert not pruned.any()
        assert not pruned.signbit().any(), name
    return plain


def saved(read: Checkpoint, prefix: str, folder: Path) -> Checkpoint:
    """A checkpoint in its container, written with `prefix` before every name, and read back."""
    weights = {prefix + name: tensor for name, tensor in read.state_dict.items()}
    torch.save({**(read.container or {}), str(read.key): weights}, folder / "a.pt")
    return load_checkpoint(folder / "a.pt")


def assert_plain(importer: Any, plain: Checkpoint, masked: list[str], folder: Path) -> Masks:
    """The plain network must have masks of these tensors, and answer as its file says, written and read again too."""
    assert list(plain.state_dict) == list(Tiny().state_dict())
    assert plain.source == importer.NAME
    assert plain.container is not None
    assert_answers(plain, plain.container["answers"])
    save_checkpoint(folder / "b.pt", plain)
    again = load_checkpoint(folder / "b.pt")
    assert not recognised(importer, again)
    assert again.prefix == plain.prefix
    assert_answers(again, plain.container["answers"])
    assert plain.masks is not None
    assert list(plain.masks) == masked
    return plain.masks


def assert_refused(importer: Any, weights: dict[str, Tensor], message: str) -> None:
    """The importer must take a file of these weights for its own, and refuse it in one sentence with a remedy."""
    assert recognised(importer, checkpoint(weights))
    with pytest.raises(CheckpointError, match=f"^{message}") as refused:
        imported(importer, checkpoint(weights))
    assert "\n" not in str(refused.value)
    assert "; " in str(refused.value)


def assert_answers(plain: Checkpoint, answers: Tensor, *, tied: bool = True) -> None:
    """The plain network must take the weights as they are, and answer as the pruned one did."""
    network = Tiny().eval()
    if not tied:
        network.head.weight = nn.Parameter(torch.zeros(3, 3))
    network.load_state_dict(plain.state_dict, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(network(images()), answers)
    if tied:
        assert plain.state_dict["mix.weight"].data_ptr() == plain.state_dict["head.weight"].data_ptr()
