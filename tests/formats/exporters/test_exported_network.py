from pathlib import Path
from typing import Any

import pytest
import torch
from tests.formats.exporters.networks import small
from torch import Tensor, nn

from gpmt.errors import CheckpointError, GpmtError, ScopeError
from gpmt.formats.exporters.exported_network import exported

NUMBERS = torch.arange(8.0).reshape(2, 4)


def test_evaluation_mode_ends_with_the_block() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    module[1].eval()
    with exported(module, NUMBERS):
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == [True, True, False]
    with pytest.raises(ZeroDivisionError), exported(module, NUMBERS):
        raise ZeroDivisionError
    assert [part.training for part in module.modules()] == [True, True, False]


def test_samples_are_taken_in_turn() -> None:
    with exported(nn.Linear(4, 4), {"input": NUMBERS}) as network:
        positional, named = network.inputs(3)
        assert positional == ()
        assert torch.equal(named["input"], NUMBERS[[0, 1, 0]])
        assert network.outputs(3).shape == (3, 4)
    with exported(nn.Bilinear(4, 4, 2), (NUMBERS, NUMBERS)) as network:
        assert [len(tensor) for tensor in network.inputs(5)[0]] == [5, 5]


def test_zeros_become_noise_since_they_would_test_nothing() -> None:
    with exported(nn.Linear(4, 4), torch.zeros(1, 4)) as network:
        (noise,), _ = network.inputs(3)
        assert noise.count_nonzero() == 12
        assert torch.equal(noise, network.inputs(3)[0][0])


def test_tokens_stay_tokens() -> None:
    module = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 2))
    with exported(module, torch.zeros(1, 5, dtype=torch.int64)) as network:
        assert torch.equal(network.inputs(2)[0][0], torch.zeros(2, 5, dtype=torch.int64))


def test_wrappers_are_taken_off() -> None:
    plain = nn.Linear(4, 4)
    with exported(nn.DataParallel(plain), NUMBERS) as network:
        assert network.module is plain


class DeadEnd(nn.Module):
    """Two layers that nothing depends on: one is never called, what the other returns is thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle, self.wasted = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, values: Tensor) -> Tensor:
        self.wasted(values)
        return self.used(values)


def test_unused_parameters() -> None:
    with exported(DeadEnd(), NUMBERS) as network:
        assert network.unused() == {"idle.weight", "idle.bias", "wasted.weight", "wasted.bias"}


class Fixed(nn.Linear):
    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values).reshape(2, -1)


class Branching(nn.Linear):
    def forward(self, values: Tensor) -> Tensor:
        result = super().forward(values)
        return result if result.sum() > 0 else -result


class Foreign(nn.Linear):
    def forward(self, values: Tensor) -> Tensor:
        return torch.from_numpy(super().forward(values).detach().numpy())


REFUSED = {
    "batch": (
        Fixed(4, 4),
        r"^Fixed cannot be exported by torch\.export: its forward fixes the size of a batch, to 2 in the example; "
        r"change its forward, or export its weights without the graph \(sparse, hub or csr\)$",
    ),
    "branch": (
        Branching(4, 4),
        r"^Branching cannot be exported by torch\.export: its forward branches on the values of a tensor "
        r"\(.*test_exported_network\.py, line \d+\); change its forward, or export",
    ),
    "foreign": (
        Foreign(4, 4),
        r"^Foreign cannot be exported by torch\.export: .*numpy.*; change its forward, or",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_cannot_be_exported(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    module, message = REFUSED[name]
    with pytest.raises(CheckpointError, match=message) as caught, exported(module, NUMBERS):
        pass
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert module.training


def test_nothing_prunable() -> None:
    with pytest.raises(ScopeError, match="has no prunable tensor"), exported(nn.BatchNorm1d(4), NUMBERS):
        pass


IMAGES = torch.ones(2, 3, 6, 6)
BAD_EXAMPLES: dict[str, tuple[Any, str]] = {
    "shape": (
        IMAGES[:, :1],
        r"^Small does not run on the example, a batch of 1×6×6 \(.*channels.*\); give inputs of the shape and type "
        r"that it was trained with$",
    ),
    "type": (IMAGES.long(), r"^Small does not run on the example, a batch of 3×6×6 \("),
    "too many": ((IMAGES, torch.ones(2)), r"a batch of 3×6×6, one number \(.*positional arguments"),
    "name": ({"pictures": IMAGES}, r"unexpected keyword argument 'pictures'"),
    "no batch": (
        torch.tensor(1.0),
        r"^input 0 of the example is shape \[\], but must be a tensor whose first dim",
    ),
    "no sample": (IMAGES[:0], r"^input 0 of the example is shape \[0, 3, 6, 6\], but must be"),
    "no tensor": (
        {"images": 3},
        r"^images of the example is int, but must be a tensor whose first dimension",
    ),
    "no inputs": ((), r"^the example is empty; give one batch of inputs$"),
    "text": (
        "images",
        r"^the example is of type str, but must be a tensor, a tuple of tensors, or a dict of",
    ),
    "sizes": (
        {"images": torch.ones(2, 3), "mask": torch.ones(3, 3)},
        r"^the inputs of the example have batches of several sizes \(images: 2, mask: 3\); make them one$",
    ),
}


@pytest.mark.parametrize("name", BAD_EXAMPLES)
def test_an_example_that_does_not_fit(tmp_path: Path, name: str) -> None:
    example, message = BAD_EXAMPLES[name]
    module = small()
    with pytest.raises(GpmtError, match=message), exported(module, example):
        pass
    assert module.training
