"""The fixture is what NNI 3.0's pruners gave (fixtures/make_nni.py); older files follow its documented layout."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.formats.checkpoints import FIXTURES
from torch import Tensor

from gpmt.errors import MaskError
from gpmt.formats.importers.mask_files.nni import NAME, PICKLE_GLOBALS, holds_masks, read_masks

PATH = Path("masks.pth")


def load(path: Path) -> Any:
    with torch.serialization.safe_globals(PICKLE_GLOBALS):
        return torch.load(path, weights_only=True)


def network() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The fixture's weights, and its masks by tensor name."""
    held = load_file(FIXTURES / "nni_expected.safetensors")
    masks = {name.removeprefix("mask:"): mask for name, mask in held.items() if name.startswith("mask:")}
    names = ("conv.weight", "conv.bias", "body.0.weight", "fc.weight", "fc.bias")
    return {name: held[name] for name in names}, masks


def test_masks_of_nni_3() -> None:
    content = load(FIXTURES / "nni_masks.pth")
    weights, expected = network()
    assert holds_masks(content)
    masks = read_masks(content, PATH, weights)
    # In the network's order; the mask of fc.bias keeps everything, body.0 has no bias.
    assert list(masks) == ["conv.weight", "conv.bias", "body.0.weight", "fc.weight"]
    for name, mask in masks.items():
        assert torch.equal(mask, expected[name] == 1), name
    assert [masks.kept(name) for name in masks] == [18, 2, 36, 20]


def test_it_needs_the_globals() -> None:
    with pytest.raises(Exception, match=r"collections\.defaultdict"):
        torch.load(FIXTURES / "nni_masks.pth", weights_only=True)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_defaultdict_becomes_a_plain_dict(tmp_path: Path, legacy: bool) -> None:
    masks: Any = defaultdict(dict)
    masks["a"]["weight"] = torch.ones(2)
    torch.save(masks, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    content = load(tmp_path / "a.pt")
    assert type(content) is dict
    assert torch.equal(content["a"]["weight"], torch.ones(2))


def older() -> dict[str, Any]:
    """What `export_model(mask_path=...)` of NNI 1 and 2 writes: bias None where the module has none."""
    return {
        "a.0": {"weight": torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "bias": None},
        "b": {"weight": torch.ones(1, 2), "bias": torch.tensor([0.0])},
    }


WEIGHTS = {"b.weight": torch.ones(1, 2), "b.bias": torch.ones(1), "a.0.weight": torch.ones(2, 2)}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8, torch.float16])
def test_masks_of_nni_1_and_2(tmp_path: Path, prefix: str, dtype: torch.dtype) -> None:
    content = {
        prefix + module: {
            target: mask if mask is None else mask.to(dtype) for target, mask in targets.items()
        }
        for module, targets in older().items()
    }
    torch.save(content, tmp_path / "a.pth")
    content = load(tmp_path / "a.pth")
    assert holds_masks(content)
    masks = read_masks(content, PATH, WEIGHTS)
    assert list(masks) == ["b.weight", "b.bias", "a.0.weight"]
    assert [masks.kept(name) for name in masks] == [2, 0, 2]
    assert masks["a.0.weight"].tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        None,
        {"a.weight": torch.ones(2, 2)},
        {"state_dict": {"weight": torch.ones(2, 2)}},
        {"model": {"weight": torch.ones(2, 2)}, "epoch": 3},
        {"generator": {"weight": torch.full((2, 2), 0.5)}},
        {"a": {"weight": None}},
        {"a": {"b.weight": torch.ones(2)}},
        {"a": {"weight": 1.0}},
        {"a": {"weight": torch.ones(2)}, "b": 3},
        {3: {"weight": torch.ones(2)}},
        {"a": {3: torch.ones(2)}},
        {"a": {"weight": torch.ones(2, device="meta")}},
        {"a": {"weight": torch.ones(2).to_sparse()}},
    ],
    ids=repr,
)
def test_what_is_not_recognised(content: object) -> None:
    assert not holds_masks(content)


def test_a_huge_shape_over_a_small_storage() -> None:
    huge = torch.ones(1).expand(2**25, 2**25)
    assert not holds_masks({"a": {"weight": huge}})
    with pytest.raises(
        MaskError, match=r"^masks\.pth holds other values than 0 and 1 in the mask for a\.weight"
    ):
        read_masks({"a": {"weight": huge}}, PATH, {"a.weight": huge})


def test_vectors_that_keep_everything_are_left_out() -> None:
    content = {"b": {"weight": torch.ones(1, 2), "bias": torch.ones(1)}}
    assert list(read_masks(content, PATH, WEIGHTS)) == ["b.weight"]
    with pytest.raises(
        MaskError, match=r"masks\.pth holds no mask of a weight; export the masks from NNI again$"
    ):
        read_masks({"b": {"weight": None, "bias": torch.ones(1)}}, PATH, WEIGHTS)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            {"c": {"weight": torch.ones(2)}},
            r"masks\.pth holds a mask for 'c\.weight', which the network does not have; give the weights that the "
            r"masks were made for$",
        ),
        (
            {"module.b": {"weight": torch.ones(1, 2)}, "b": {"bias": torch.ones(1)}},
            r"for 'module\.b\.weight'",
        ),
        (
            {"b": {"weight": torch.ones(2, 1)}},
            r"holds a mask of shape \[2, 1\] for b\.weight, which has \[1, 2\]; give the weights that",
        ),
        ({"b": {"weight": torch.ones(1)}}, r"of shape \[1\] for b\.weight, which has \[1, 2\]"),
        (
            {"b": {"weight": torch.tensor([[1.0, 0.5]])}},
            r"other values than 0 and 1 in the mask for b\.weight",
        ),
        ({"b": {"weight": torch.tensor([[1.0, float("nan")]])}}, "other values than 0 and 1"),
        (
            {"b": {"_output_0": torch.ones(1)}},
            r"holds a mask of activations \('b\._output_0'\), which no weights",
        ),
        ({"b": 3}, "holds no masks for module 'b'"),
        ([], "holds no masks of NNI, which are a mapping"),
    ],
)
def test_masks_that_do_not_fit(content: Any, sentence: str) -> None:
    with pytest.raises(MaskError, match=sentence) as refused:
        read_masks(content, PATH, WEIGHTS)
    assert "\n" not in str(refused.value)


def test_its_name() -> None:
    assert NAME == "NNI masks"
