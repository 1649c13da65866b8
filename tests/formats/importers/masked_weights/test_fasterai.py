"""Files of fasterai 0.4.1 itself, see make_fasterai.py; bad ones are made by hand."""

from pathlib import Path

import pytest
import torch
from tests.formats.fixtures.tiny_network import Tiny
from tests.formats.importers.masked_weights.checks import (
    assert_plain,
    assert_refused,
    checkpoint,
    converted,
    fixture,
    saved,
)
from torch import Tensor

from gpmt.formats.importers.masked_weights import fasterai

NAMES = list(Tiny().state_dict())
PRUNED = ["conv.weight", "block.0.weight"]


@pytest.mark.parametrize("name", ["fasterai.pt", "fasterai_filter.pt"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_plain_network_answers_the_same(tmp_path: Path, name: str, prefix: str) -> None:
    read = fixture(name)
    plain = converted(fasterai, saved(read, prefix, tmp_path))
    masks = assert_plain(fasterai, plain, PRUNED, tmp_path)
    for weight, mask in masks.items():
        stored = read.state_dict[weight]
        assert torch.equal(mask, read.state_dict[weight.replace("weight", "_mask")].expand_as(stored) == 1)
        assert torch.equal(plain.state_dict[weight], stored), weight  # pruned in place already
    assert masks.total_kept == (39 if "filter" in name else 28)


def test_before_anything_is_pruned() -> None:
    weights = {
        name: tensor for name, tensor in fixture("fasterai.pt").state_dict.items() if "_mask" not in name
    }
    plain = converted(fasterai, checkpoint(weights))
    assert list(plain.state_dict) == NAMES
    assert plain.masks is None


def test_a_network_that_is_one_layer_with_a_mask_of_rows() -> None:
    weights = {
        "weight": torch.ones(2, 3),
        "bias": torch.ones(2),
        "_init_weights": torch.ones(2, 3),
        "_init_biases": torch.ones(2),
        "_old_weights": torch.ones(2, 3),
        "_mask": torch.tensor([[1.0], [0.0]]),
    }
    plain = converted(fasterai, checkpoint(weights))
    assert {name: tensor.tolist() for name, tensor in plain.state_dict.items()} == {
        "weight": [[1, 1, 1], [0, 0, 0]],
        "bias": [1, 1],
    }


def test_a_mask_of_another_module_stays() -> None:
    weights = {
        "fc.weight": torch.ones(2),
        "fc._init_weights": torch.ones(2),
        "attention._mask": torch.ones(3),
    }
    assert list(converted(fasterai, checkpoint(weights)).state_dict) == ["fc.weight", "attention._mask"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc._mask": torch.ones(2)}, r"a\.pt: fc\._mask has shape \[2\], but its weight has \[2, 3\]; save"),
        (
            {"fc._mask": torch.ones(1, 2)},
            r"a\.pt: fc\._mask has shape \[1, 2\], but its weight has \[2, 3\]; save",
        ),
        (
            {"fc._mask": torch.full((2, 1), 0.5)},
            r"a\.pt: fc\._mask holds the value 0\.5, but a mask holds only",
        ),
        (
            {"fd._init_weights": torch.ones(2), "fd._mask": torch.ones(2)},
            r"a\.pt holds fd\._mask but no fd\.weight; save",
        ),
        (
            {"c.parametrizations.weight.original": torch.ones(2), "c._init_weights": torch.ones(2)},
            r"a\.pt holds c\.parametrizations\.weight\.original, a reparametrised weight, as quantisation in",
        ),
    ],
)
def test_bad_files(change: dict[str, Tensor], message: str) -> None:
    weights = {"fc.weight": torch.ones(2, 3), "fc._init_weights": torch.ones(2, 3), **change}
    assert_refused(fasterai, weights, message)
