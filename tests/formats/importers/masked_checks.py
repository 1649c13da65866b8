"""What is asked of every importer of masked weights."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tests.formats.fixtures.tiny_network import Tiny, images
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm

from gpmt.formats.checkpoint import Checkpoint, find_weights, read_torch

FIXTURES = Path(__file__).parents[1] / "fixtures"


def fixture(name: str, further: Iterable[tuple[Any, str]] = ()) -> Checkpoint:
    return find_weights(FIXTURES / name, read_torch(FIXTURES / name, further))


def checkpoint(weights: dict[str, Tensor], **fields: Any) -> Checkpoint:
    return Checkpoint(Path("a.pt"), weights, original=weights, **fields)


def converted(importer: Any, read: Checkpoint) -> Checkpoint:
    """What the importer makes of a checkpoint, which must stay as it is."""
    assert importer.recognises(read)
    tensors = {name: tensor.clone() for name, tensor in read.state_dict.items()}
    outside = list(read.container or {}), dict(read.metadata), read.source, read.masks, read.original
    plain = importer.convert(read)
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


class Equalized(nn.Module):
    """As in StyleGAN: a parameter of this name without any pruning."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_orig = nn.Parameter(torch.ones(2, 2))


class Masking(nn.Module):
    """Masks of other kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))
        self.register_buffer("weight_mask", torch.ones(2, 2))
        self.register_buffer("attn_mask", torch.ones(2, 2))
        self.register_buffer("_mask", torch.ones(2, 2))


def ordinary() -> list[Checkpoint]:
    """Checkpoints that no tool has pruned."""
    removed = prune.l1_unstructured(nn.Linear(3, 2), "weight", 0.5)
    prune.remove(removed, "weight")
    networks = [
        Tiny(),
        removed,
        nn.Sequential(spectral_norm(nn.Linear(3, 2)), Masking()),
        nn.ModuleDict({"pre_ops": nn.ModuleList([nn.ModuleDict({"op": nn.Linear(3, 2)})])}),
        parametrizations.weight_norm(nn.Linear(3, 2)),
        Equalized(),
        Masking(),
    ]
    bare = [checkpoint(network.state_dict()) for network in networks]
    containers = [
        {"epoch": 3, "arch": "resnet20", "recipe": None},
        {"recipe": "flour and water", "manager": {"name": "me", "state": {}}},
        {"pytorch-lightning_version": "2.6.6", "callbacks": {"ModelPruning": {}}},
    ]
    weights = Tiny().state_dict()
    inside = [
        checkpoint(weights, container={**container, "state_dict": weights}, key="state_dict")
        for container in containers
    ]
    return [*bare, *inside]
