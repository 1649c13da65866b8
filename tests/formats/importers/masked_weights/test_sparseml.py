"""A file of SparseML 1.8 itself, see make_sparseml.py.

Made by hand from SparseML's sources: checkpoints without the modifiers' state, with other recipes, and quantised.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.formats.fixtures.tiny_network import Tiny
from tests.formats.importers.masked_weights.checks import (
    assert_answers,
    checkpoint,
    converted,
    fixture,
    imported,
    recognised,
)
from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from gpmt.formats.importers.masked_weights import sparseml

pytest.importorskip("yaml", reason="recipes need PyYAML, which is in the extra gpmt[train]")

NAMES = list(Tiny().state_dict())
PRUNED = ["conv.weight", "block.0.weight", "fc.weight"]


def weights() -> dict[str, Tensor]:
    return {
        "conv.weight": torch.tensor([[[[1.0, 0], [0, -0.0]]]]),
        "conv.bias": torch.tensor([0.0]),
        "bn.weight": torch.tensor([0.0, 1]),
        "bn.running_mean": torch.tensor([0.0, 1]),
        "fc.weight": torch.tensor([[0.0, 3]]),
    }


def contained(recipe: str, key: str = "recipe", **others: Any) -> Checkpoint:
    held = {"state_dict": weights(), key: recipe, "epoch": 3, **others}
    return checkpoint(held["state_dict"], container=held, key="state_dict")


def recipe_for(
    params: str, modifier: str = "GMPruningModifier", settings: str = "final_sparsity: 0.8"
) -> str:
    return f"modifiers:\n  - !{modifier}\n    params: {params}\n    {settings}\n"


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("dropped", [(), ("manager",), ("recipe",)])
def test_the_plain_network_answers_the_same(tmp_path: Path, prefix: str, dropped: tuple[str, ...]) -> None:
    read = fixture("sparseml.pt")
    held = {key: value for key, value in (read.container or {}).items() if key not in dropped}
    held["state_dict"] = {prefix + name: tensor for name, tensor in read.state_dict.items()}
    torch.save(held, tmp_path / "a.pt")
    plain = converted(sparseml, load_checkpoint(tmp_path / "a.pt"))
    assert list(plain.state_dict) == NAMES
    assert_answers(plain, held["answers"], tied=False)  # SparseML copies tied weights
    assert plain.source == "SparseML"
    assert plain.masks is not None
    assert list(plain.masks) == PRUNED
    for name in PRUNED:
        assert torch.equal(plain.masks[name], read.state_dict[name] != 0), name
    assert plain.masks.kept("fc.weight") == 3  # of 12
    assert plain.metadata == ({} if "recipe" in dropped else {"final_sparsity": "0.5, 0.75"})
    assert list(plain.container or {}) == [key for key in held if key not in ("recipe", "manager")]
    save_checkpoint(tmp_path / "b.pt", plain)
    assert_answers(load_checkpoint(tmp_path / "b.pt"), held["answers"], tied=False)


def test_the_state_of_modifiers_tells_zeros_that_are_kept() -> None:
    read = fixture("sparseml.pt")
    assert read.container is not None
    state = next(state for state in read.container["manager"].values() if "fc.weight.sparsity_mask" in state)
    kept = state["fc.weight.sparsity_mask"] == 1
    read.state_dict["fc.weight"][kept] = 0
    plain = converted(sparseml, read)
    assert plain.masks is not None
    assert torch.equal(plain.masks["fc.weight"], kept)
    other = {"GMPruningModifier-" + "0" * 32: {"fc.weight.sparsity_mask": torch.zeros_like(kept)}}
    for manager in (read.container["manager"] | other, other | read.container["manager"]):
        read.container["manager"] = manager
        masks = converted(sparseml, read).masks
        assert masks is not None
        assert masks.kept("fc.weight") == 0  # one modifier prunes what the other keeps


def test_weights_that_came_back_are_kept() -> None:
    read = fixture("sparseml.pt")
    read.state_dict["fc.weight"].fill_(1.0)
    plain = converted(sparseml, read)
    assert plain.state_dict["fc.weight"].all()
    assert plain.masks is not None
    assert plain.masks.kept("fc.weight") == 12


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ("[fc.weight]", ["fc.weight"]),
        ("fc.weight", ["fc.weight"]),
        ("['re:.*weight', fc.weight]", ["conv.weight", "bn.weight", "fc.weight"]),
        (
            "['re:c']",
            ["conv.weight", "conv.bias"],
        ),  # as SparseML matches: from the start of the name, but not to its end
        ("__ALL_PRUNABLE__", ["conv.weight", "fc.weight"]),
        ("[]", ["conv.weight", "fc.weight"]),
        ("[__ALL__]", ["conv.weight", "conv.bias", "bn.weight", "fc.weight"]),
    ],
)
def test_what_a_recipe_names(params: str, names: list[str]) -> None:
    plain = converted(sparseml, contained(recipe_for(params), optimizer={}))
    assert plain.masks is not None
    assert list(plain.masks) == names
    for name in names:
        assert torch.equal(plain.masks[name], weights()[name] != 0), name
    assert {name: tensor.tolist() for name, tensor in plain.state_dict.items()} == {
        name: tensor.tolist() for name, tensor in weights().items()
    }
    assert list(plain.state_dict) == list(weights())
    assert plain.metadata == {"final_sparsity": "0.8"}
    assert list(plain.container or {}) == ["state_dict", "epoch", "optimizer"]


def test_modifiers_together_under_the_other_key() -> None:
    recipe = recipe_for("[fc.weight]") + "  - !ConstantPruningModifier {params: [conv.weight]}\n"
    plain = converted(sparseml, contained(recipe, key="checkpoint_recipe"))
    assert list(plain.masks or {}) == ["conv.weight", "fc.weight"]
    assert list(plain.container or {}) == ["state_dict", "epoch"]


@pytest.mark.parametrize(
    "read",
    [
        contained("modifiers:\n  - !EpochRangeModifier {end_epoch: 1.0}\n"),
        contained("", arch_key="resnet50"),
        contained("no recipe at all", arch_key="resnet50"),
    ],
)
def test_without_pruning_modifiers_only_zeros_tell(read: Checkpoint) -> None:
    plain = converted(sparseml, read)
    assert plain.source == "SparseML"
    assert plain.masks is None
    assert plain.metadata == {}


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            recipe_for("[fd.weight]"),
            r": GMPruningModifier of the recipe prunes fd\.weight, but no tensor has such a",
        ),
        (
            recipe_for("['re:x']"),
            ": GMPruningModifier of the recipe prunes re:x, but no tensor has such a name; save",
        ),
        (recipe_for("[fc.weight"), ": its recipe is not valid YAML at line 4 .*; save its state_dict alone"),
    ],
)
def test_bad_recipes(recipe: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^a\.pt{message}"):
        imported(sparseml, contained(recipe))


def test_bad_states() -> None:
    identifier = "GMPruningModifier-" + "0" * 32
    for key, mask, message in (
        (
            "fd.weight",
            torch.ones(1, 2),
            r" holds the mask fd\.weight\.sparsity_mask but no fd\.weight; save it again",
        ),
        (
            "fc.weight",
            torch.ones(2),
            r": fc\.weight\.sparsity_mask has shape \[2\], but its weight has \[1, 2\]; sa",
        ),
        (
            "fc.weight",
            torch.full((1, 2), 7),
            r": fc\.weight\.sparsity_mask holds the value 7, but a mask holds only",
        ),
    ):
        state = {"stage": {identifier: {f"{key}.sparsity_mask": mask}}}
        read = contained("", manager=state)
        assert recognised(sparseml, read)
        with pytest.raises(CheckpointError, match=rf"^a\.pt{message}"):
            imported(sparseml, read)


@pytest.mark.parametrize(
    "name",
    [
        "fc.weight_fake_quant.scale",
        "quant.activation_post_process.min_val",
        "conv.module.weight_fake_quant.activation_post_process.eps",
        "fc._packed_params.dtype",
        "fc.weight_zero_point",
    ],
)
def test_quantised_networks_are_refused(name: str) -> None:
    read = contained(recipe_for("__ALL_PRUNABLE__"))
    read.state_dict[name] = torch.ones(1)
    message = (
        rf"^a\.pt holds {name}, which belongs to a network that SparseML quantised, .*; give the checkpoint"
    )
    with pytest.raises(CheckpointError, match=message):
        imported(sparseml, read)
