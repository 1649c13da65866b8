"""Networks pruned here by `torch.nn.utils.prune` itself, and a file of Lightning, see make_lightning_prune.py."""

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from tests.formats.fixtures.tiny_network import Tiny, images, trained
from tests.formats.importers.masked_weights.checks import (
    assert_answers,
    assert_refused,
    checkpoint,
    converted,
    fixture,
    imported,
    recognised,
)
from torch import Tensor, nn
from torch.nn.utils import prune, spectral_norm

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import load_checkpoint, save_checkpoint
from gpmt.formats.importers.masked_weights import torch_prune


def layers(network: Tiny) -> dict[str, nn.Module]:
    return {"conv": network.conv, "bn": network.bn, "block.0": network.block[0], "fc": network.fc}


def l1(network: Tiny) -> None:
    prune.l1_unstructured(network.conv, "weight", 0.5)


def structured(network: Tiny) -> None:
    prune.ln_structured(network.conv, "weight", 0.5, n=2, dim=0)
    prune.random_structured(network.fc, "weight", 1, dim=1)


def biases(network: Tiny) -> None:
    prune.random_unstructured(network.fc, "bias", 2)
    prune.l1_unstructured(network.bn, "weight", 1)


def everywhere(network: Tiny) -> None:
    pairs = [(module, "weight") for module in layers(network).values()]
    prune.global_unstructured([*pairs, (network.fc, "bias")], prune.L1Unstructured, amount=0.6)


def twice(network: Tiny) -> None:
    prune.l1_unstructured(network.fc, "weight", 4)
    prune.ln_structured(network.fc, "weight", 1, n=1, dim=0)


def tied(network: Tiny) -> None:
    mask = torch.eye(3)
    prune.custom_from_mask(network.mix, "weight", mask)
    prune.custom_from_mask(network.head, "weight", mask.clone())


@pytest.mark.parametrize("how", [l1, structured, biases, everywhere, twice, tied])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("contained", [True, False])
def test_the_plain_network_answers_the_same(tmp_path: Path, how: Any, prefix: str, contained: bool) -> None:
    network = trained()
    how(network)
    with torch.no_grad():
        answers = network(images())
    masks = dict(network.named_buffers())
    weights = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": weights} if contained else weights, tmp_path / "a.pt")

    plain = converted(torch_prune, load_checkpoint(tmp_path / "a.pt"))

    assert_answers(plain, answers)
    assert plain.source == "torch.nn.utils.prune"
    assert plain.masks is not None
    expected = {name.removesuffix("_mask") for name in masks if name.endswith("_mask")} - {"head.weight"}
    assert set(plain.masks) == expected
    for name, mask in plain.masks.items():
        assert torch.equal(mask, masks[f"{name}_mask"].bool()), name
    assert set(plain.state_dict) == set(Tiny().state_dict())

    save_checkpoint(tmp_path / "b.pt", plain)
    again = load_checkpoint(tmp_path / "b.pt")
    assert not recognised(torch_prune, again)
    assert again.prefix == prefix
    assert_answers(again, answers)
    assert again.container == ({"epoch": 3, "state_dict": again.original} if contained else None)


def test_order_is_that_of_the_first_part() -> None:
    network = Tiny()
    prune.l1_unstructured(network.fc, "weight", 0.5)
    plain = converted(torch_prune, checkpoint(network.state_dict()))
    order = list(plain.state_dict)
    assert (
        order.index("fc.weight") == order.index("fc.bias") + 1
    )  # PyTorch moves the original behind the bias
    assert [name for name in order if not name.startswith("fc.")] == [
        name for name in Tiny().state_dict() if not name.startswith("fc.")
    ]


def test_masks_before_originals() -> None:
    weights = {"weight_mask": torch.tensor([1.0, 0.0]), "x": torch.ones(1), "weight_orig": torch.ones(2)}
    plain = converted(torch_prune, checkpoint(weights))
    assert list(plain.state_dict) == ["weight", "x"]
    assert plain.state_dict["weight"].tolist() == [1, 0]


@settings(max_examples=10)
@given(st.data())
def test_any_masks_on_any_parameters(data: st.DataObject) -> None:
    network = trained()
    parameters = [
        (module, name) for module in layers(network).values() for name, _ in module.named_parameters()
    ]
    chosen = data.draw(st.lists(st.sampled_from(range(len(parameters))), min_size=1, unique=True))
    for module, name in (parameters[i] for i in chosen):
        shape = getattr(module, name).shape
        seed = data.draw(st.integers(0, 99))
        mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5
        prune.custom_from_mask(module, name, mask)
    plain = converted(torch_prune, checkpoint({k: v.clone() for k, v in network.state_dict().items()}))
    for module, name in (parameters[i] for i in chosen):
        prune.remove(module, name)
    assert set(plain.state_dict) == set(network.state_dict())
    for name, tensor in network.state_dict().items():
        assert torch.equal(plain.state_dict[name], tensor), name


def test_other_modules_and_half_precision() -> None:
    network = nn.ModuleDict({"lstm": nn.LSTM(3, 4), "attention": nn.MultiheadAttention(4, 2)}).bfloat16()
    plain_names = set(network.state_dict())
    prune.l1_unstructured(network["lstm"], "weight_hh_l0", 0.5)
    prune.l1_unstructured(network["attention"], "in_proj_weight", 0.5)
    plain = converted(torch_prune, checkpoint(network.state_dict()))
    assert set(plain.state_dict) == plain_names
    assert set(plain.masks or {}) == {"lstm.weight_hh_l0", "attention.in_proj_weight"}
    assert plain.state_dict["lstm.weight_hh_l0"].dtype == torch.bfloat16


def test_a_network_that_is_one_layer() -> None:
    plain = converted(
        torch_prune, checkpoint(prune.l1_unstructured(nn.Linear(3, 2), "weight", 0.5).state_dict())
    )
    assert list(plain.state_dict) == ["bias", "weight"]


def test_spectral_norm_and_other_masks_beside_it() -> None:
    network = nn.Sequential(
        prune.l1_unstructured(nn.Linear(3, 2), "weight", 0.5), spectral_norm(nn.Linear(2, 2))
    )
    network.register_buffer("attn_mask", torch.full((2, 2), -100.0))
    plain = converted(torch_prune, checkpoint(network.state_dict()))
    assert set(plain.state_dict) == {
        *("0.weight", "0.bias", "attn_mask", "1.bias", "1.weight_orig", "1.weight_u", "1.weight_v")
    }
    assert plain.state_dict["attn_mask"].min() == -100


def test_optimisers_are_dropped_because_pruning_reorders_parameters(tmp_path: Path) -> None:
    layer = nn.Linear(3, 2)
    prune.l1_unstructured(layer, "weight", 0.5)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1).state_dict()
    held = {"optimizer": optimizer, "epoch": 3, "state_dict": layer.state_dict(), "best": 0.9}
    torch.save(held, tmp_path / "a.pt")
    plain = converted(torch_prune, load_checkpoint(tmp_path / "a.pt"))
    assert list(plain.container or {}) == ["epoch", "state_dict", "best"]


def test_lightning() -> None:
    read = fixture("lightning_prune.pt")
    plain = converted(torch_prune, read)
    assert plain.source == "Lightning with torch.nn.utils.prune"
    assert plain.container is not None
    assert read.container is not None
    assert plain.container["epoch"] == 2
    assert set(read.container) - set(plain.container) == {"optimizer_states"}
    plain.state_dict = {name.removeprefix("model."): tensor for name, tensor in plain.state_dict.items()}
    assert_answers(plain, plain.container["answers"], tied=False)
    assert plain.masks is not None
    assert plain.masks.total_kept == 13  # of 51, half pruned twice
    for name, mask in plain.masks.items():
        assert torch.equal(mask, read.state_dict[f"{name}_mask"].bool()), name


def parts() -> dict[str, Tensor]:
    return {
        "conv.weight_orig": torch.ones(2, 2),
        "conv.weight_mask": torch.ones(2, 2),
        "fc.bias": torch.ones(2),
        "fc.weight_orig": torch.ones(2, 3),
        "fc.weight_mask": torch.ones(2, 3),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.weight_mask": None}, r"a\.pt holds fc\.weight_orig but no fc\.weight_mask, and torch\.nn\.utils"),
        ({"fc.weight_orig": None}, r"a\.pt holds fc\.weight_mask but no fc\.weight_orig, and torch\.nn\.utils"),
        ({"fc.weight_mask": torch.ones(3, 2)}, r"a\.pt: fc\.weight_mask has shape \[3, 2\], but its weight has"),
        ({"fc.weight_mask": torch.full((2, 3), 0.5)}, r"a\.pt: fc\.weight_mask holds the value 0\.5, but a mask"),
        ({"fc.weight": torch.ones(2, 3)}, r"a\.pt holds both fc\.weight and fc\.weight_orig, which is a part of it"),
    ],
)  # fmt: skip
def test_bad_parts(change: dict[str, Tensor | None], message: str) -> None:
    weights = {name: tensor for name, tensor in {**parts(), **change}.items() if tensor is not None}
    assert_refused(torch_prune, weights, message)


def test_tied_weights_pruned_in_one_module_only() -> None:
    network = Tiny()
    prune.l1_unstructured(network.head, "weight", 0.5)
    message = r"^a\.pt: mix\.weight and head\.weight are one tensor, but pruned differently"
    with pytest.raises(CheckpointError, match=message):
        imported(torch_prune, checkpoint(network.state_dict()))
