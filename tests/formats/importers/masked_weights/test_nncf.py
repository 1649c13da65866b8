"""Files of NNCF 2.19 and 3.4 themselves, see make_nncf2.py and make_nncf3.py.

Made by hand from NNCF's sources: the wrapper ``nncf_module.`` of NNCF up to 2.4, masks of movement sparsity, two
hooks on one weight, a hooked network inside another, and the tensors of quantisation and filter pruning.
"""

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
    imported,
    saved,
)
from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint, load_checkpoint
from gpmt.formats.importers.masked_weights import nncf

NAMES = list(Tiny().state_dict())
PRUNED = ["conv.weight", "block.0.weight", "fc.weight", "mix.weight"]  # which head.weight is tied to
HOOKED = ["nncf3.pt", "nncf3_rb.pt"]
LAYERED = ["nncf2.pt", "nncf2_rb.pt"]


def read_fixture(name: str) -> Checkpoint:
    return fixture(name, nncf.PICKLE_GLOBALS)


def stored_mask(stored: dict[str, Tensor], name: str) -> Tensor:
    layer = name.removesuffix(".weight")
    hook = f"__nncf_hooks.post_hooks.{name.replace('.', ':')}__0.0."
    if hook + "mask" in stored:
        return stored[hook + "mask"] > 0
    return (stored.get(hook + "binary_mask", stored.get(f"{layer}.pre_ops.0.op._binary_mask"))) == 1


@pytest.mark.parametrize("name", [*HOOKED, *LAYERED])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_plain_network_answers_the_same(tmp_path: Path, name: str, prefix: str) -> None:
    read = read_fixture(name)
    plain = converted(nncf, saved(read, prefix, tmp_path))
    assert plain.prefix == prefix
    for weight, mask in assert_plain(nncf, plain, PRUNED, tmp_path).items():
        assert torch.equal(mask, stored_mask(read.state_dict, weight)), weight
        assert torch.equal(plain.state_dict[weight], read.state_dict[weight] * mask), weight


@pytest.mark.parametrize("name", [*HOOKED, *LAYERED])
def test_about_half_is_pruned(name: str) -> None:
    masks = converted(nncf, read_fixture(name)).masks
    assert masks is not None
    # Regularisation keeps what is above 0 of -1, 0, 1, -1, ...
    assert masks.sparsity == pytest.approx(2 / 3 if "rb" in name else 1 / 2, abs=0.03)


def test_the_stage_of_compression_is_a_number() -> None:
    container = read_fixture("nncf2.pt").container
    assert container is not None
    assert container["compression_state"]["ctrl_state"]["magnitude_sparsity"]["compression_stage"] == 2
    with pytest.raises(CheckpointError, match=r"it needs nncf\.api\.compression\.CompressionStage"):
        fixture("nncf2.pt")


def test_stripped() -> None:
    read = read_fixture("nncf2_stripped.pt")
    plain = converted(nncf, read)
    assert list(plain.state_dict) == NAMES
    assert plain.masks is None
    unstripped = converted(nncf, read_fixture("nncf2.pt"))
    for name in NAMES:
        assert torch.equal(plain.state_dict[name], unstripped.state_dict[name]), name


@pytest.mark.parametrize("prefix", ["nncf_module.", "module.nncf_module."])
@pytest.mark.parametrize("name", [*LAYERED, "nncf2_stripped.pt"])
def test_the_wrapper_of_older_versions(tmp_path: Path, name: str, prefix: str) -> None:
    read = read_fixture(name)
    torch.save({prefix + name: tensor for name, tensor in read.state_dict.items()}, tmp_path / "a.pt")
    old, new = converted(nncf, load_checkpoint(tmp_path / "a.pt")), converted(nncf, read)
    assert list(old.state_dict) == NAMES
    assert old.masks == new.masks
    for name in NAMES:
        assert torch.equal(old.state_dict[name], new.state_dict[name]), name


def test_a_hooked_network_inside_another() -> None:
    read = read_fixture("nncf3.pt")
    outer = checkpoint({f"body.0.{name}": tensor for name, tensor in read.state_dict.items()})
    plain = converted(nncf, outer)
    assert list(plain.state_dict) == [f"body.0.{name}" for name in NAMES]
    assert list(plain.masks or {}) == [f"body.0.{name}" for name in PRUNED]


def test_a_network_that_is_one_layer() -> None:
    mask = torch.eye(2)
    for name in ("__nncf_hooks.post_hooks.weight__0.0.binary_mask", "pre_ops.0.op._binary_mask"):
        plain = converted(nncf, checkpoint({"weight": torch.ones(2, 2), "bias": torch.ones(2), name: mask}))
        assert list(plain.state_dict) == ["weight", "bias"]
        assert torch.equal(plain.state_dict["weight"], mask)


def test_two_hooks_on_one_weight() -> None:
    hook = "__nncf_hooks.post_hooks.fc:weight__0."
    first, second = torch.tensor([True, True, False]), torch.tensor([False, True, True])
    weights = {"fc.weight": torch.ones(3), f"{hook}0.binary_mask": first, f"{hook}1.binary_mask": second}
    plain = converted(nncf, checkpoint(weights))
    assert plain.state_dict["fc.weight"].tolist() == [0, 1, 0]


def test_movement_sparsity() -> None:
    weights = {
        "fc.weight": torch.ones(2, 3),
        "fc.bias": torch.ones(2),
        "fc.pre_ops.0.op.weight_importance": torch.randn(2, 3),
        "fc.pre_ops.0.op.bias_importance": torch.randn(2),
        "fc.pre_ops.0.op.weight_ctx._binary_mask": torch.tensor([[1.0, 0, 1], [0, 0, 0]]),
        "fc.pre_ops.0.op.bias_ctx._binary_mask": torch.tensor([1.0, 0]),
    }
    plain = converted(nncf, checkpoint(weights))
    assert {name: tensor.tolist() for name, tensor in plain.state_dict.items()} == {
        "fc.weight": [[1, 0, 1], [0, 0, 0]],
        "fc.bias": [1, 0],
    }
    assert plain.masks is not None
    assert list(plain.masks) == ["fc.weight", "fc.bias"]


def test_optimisers_are_dropped_where_masks_were_parameters() -> None:
    for name, dropped in {
        "nncf2.pt": False,
        "nncf2_rb.pt": True,
        "nncf3.pt": False,
        "nncf3_rb.pt": True,
    }.items():
        read = read_fixture(name)
        assert read.container is not None
        assert {"compression_state", "nncf_config"} & set(read.container)
        read.container["optimizer"] = {}
        plain = converted(nncf, read)
        assert plain.container is not None
        assert ("optimizer" not in plain.container) == dropped
        assert plain.container["epoch"] == 3
        assert not {"compression_state", "nncf_config"} & set(plain.container)


HOOK = "__nncf_hooks.post_hooks.fc:weight__0.0.binary_mask"
OPERATION = "fc.pre_ops.0.op."
QUANTISED = "which belongs to NNCF's quantisation or to another method"


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (HOOK, torch.ones(2), rf": {HOOK} has shape \[2\], but its weight has \[2, 2\]; save"),
        (HOOK, torch.full((2, 2), 3), rf": {HOOK} holds the value 3, but a mask holds only 0 and 1; save"),
        (
            HOOK.replace("fc", "fd"),
            torch.ones(2, 2),
            r" holds the mask .* but not its weight fd\.weight; save",
        ),
        (HOOK.replace("__0", "__1"), torch.ones(2, 2), f" holds __nncf.*, {QUANTISED}"),
        (HOOK.replace("post_", "pre_"), torch.ones(2, 2), f" holds __nncf.*, {QUANTISED}"),
        (HOOK.replace("binary_mask", "scale"), torch.ones(1), f" holds __nncf.*, {QUANTISED}"),
        (
            OPERATION + "_binary_mask",
            torch.ones(2),
            rf": {OPERATION}_binary_mask has shape \[2\], but its weight",
        ),
        (
            "x.pre_ops.0.op._binary_mask",
            torch.ones(2),
            r" holds the mask x\..* but not its weight x\.weight; save",
        ),
        (
            OPERATION + "_binary_filter_pruning_mask",
            torch.ones(2),
            " holds fc.*, a mask of NNCF's filter pruning",
        ),
        ("fc.pre_ops.1.op._num_bits", torch.ones(1), rf" holds fc\.pre_ops\.1\.op\._num_bits, {QUANTISED}"),
        ("_nncf.external_quantizers.x.scale", torch.ones(1), rf" holds _nncf\.external.*, {QUANTISED}"),
        (
            "fc.nncf_padding_value",
            torch.ones(1),
            r": fc\.nncf_padding_value is 1, but plain convolutions pad with 0",
        ),
        (
            "nncf_module.fc.weight",
            torch.ones(1),
            r" holds tensors both with and without nncf_module\. before",
        ),
    ],
)
def test_what_cannot_be_plain(name: str, tensor: Tensor, message: str) -> None:
    weights = {"fc.weight": torch.ones(2, 2), "conv.nncf_padding_value": torch.zeros(1), name: tensor}
    assert_refused(nncf, weights, rf"a\.pt{message}")


def test_tied_layers_pruned_differently() -> None:
    read = read_fixture("nncf2.pt")
    weights = {**read.state_dict, "head.pre_ops.0.op._binary_mask": torch.zeros(3, 3)}
    message = "mix.weight and head.weight are one tensor, but pruned differently"
    with pytest.raises(CheckpointError, match=message):
        imported(nncf, checkpoint(weights))
