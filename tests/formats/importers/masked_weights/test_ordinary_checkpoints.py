"""Checkpoints that no tool has pruned, though their names resemble those of one that has."""

from typing import Any

import pytest
import torch
from tests.formats.fixtures.tiny_network import Tiny
from tests.formats.importers.masked_weights.checks import checkpoint, recognised
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm

from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.importers.registry import MASKED_WEIGHTS


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


@pytest.mark.parametrize("importer", MASKED_WEIGHTS.importers(), ids=lambda importer: importer.NAME)
def test_no_importer_recognises_them(importer: Any) -> None:
    assert not [read for read in ordinary() if recognised(importer, read)]
