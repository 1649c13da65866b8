"""The fixture is what np.save of the scripts' time makes of their list of tensors (fixtures/make_published.py)."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests.formats.checkpoints import FIXTURES, source
from tests.formats.importers.mask_files.published_files import WEIGHTS, ones, save, save_pickle, weights_of
from torch import nn

import gpmt
from gpmt.errors import MaskError, ScopeError
from gpmt.formats.importers.mask_files import published
from gpmt.formats.importers.mask_files.published import read_masks


def test_the_published_file() -> None:
    expected = load_file(FIXTURES / "weight_mask_expected.safetensors")
    path = FIXTURES / "weight_mask.npy"
    raw = path.read_bytes()
    assert published.recognises(source(path))
    assert raw.count(b"cuda:0") == 3
    assert b"numpy.core.multiarray" in raw
    masks = read_masks(path, weights_of(expected))
    assert list(masks) == ["conv1.weight", "conv2.weight", "fc.weight"]
    for name, mask in masks.items():
        assert torch.equal(mask, expected[name] == 1)
    assert 0 < masks.total_kept < masks.total_numel


def test_a_network_from_its_masks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 8, 3, bias=False),
            bn1=nn.BatchNorm2d(8),
            embed=nn.Embedding(4, 5),
            fc=nn.Linear(8, 10),
        )
    )
    dense = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    expected = gpmt.prune_(network, sparsity=0.9, min_kept=5).masks()
    path = save(tmp_path / "weight_mask.npy", [expected[name].float() for name in expected])
    masks = read_masks(path, dense)
    assert masks == expected
    masks.apply_(dense)
    assert all(torch.equal(dense[name], tensor) for name, tensor in network.state_dict().items())


DTYPES = ["float32", "float64", "float16", "bfloat16", "bool", "uint8", "int8", "int16", "int32", "int64"]


@given(
    bits=st.lists(st.booleans(), min_size=12, max_size=12),
    dtype=st.sampled_from(DTYPES),
    way=st.sampled_from(["tensor", "array", "parameter", "view", "transposed", "fortran", "big-endian"]),
    protocol=st.integers(2, 4),  # np.save goes no further
)
def test_every_form_of_a_mask(
    tmp_path_factory: pytest.TempPathFactory, bits: list[bool], dtype: str, way: str, protocol: int
) -> None:
    flat = torch.tensor(bits).to(getattr(torch, dtype))
    tensors = [flat[:6].reshape(2, 3), flat[6:].reshape(3, 2, 1, 1)]
    items: list[Any] = tensors
    if way == "parameter" and tensors[0].is_floating_point():
        items = [nn.Parameter(tensor) for tensor in tensors]
    elif way == "tensor":
        items = [tensor.clone() for tensor in tensors]
    elif way == "transposed":
        items = [tensor.transpose(0, 1).contiguous().transpose(0, 1) for tensor in tensors]
    elif way in ("array", "fortran", "big-endian") and dtype != "bfloat16":
        order: Any = "F" if way == "fortran" else "C"
        items = [np.asarray(tensor.numpy(), order=order) for tensor in tensors]
        if way == "big-endian":
            items = [array.astype(array.dtype.newbyteorder(">")) for array in items]
    array = np.empty(2, dtype=object)
    array[0], array[1] = items
    path = save_pickle(tmp_path_factory.mktemp("masks") / "a.npy", array, protocol)
    masks = read_masks(path, WEIGHTS)
    assert torch.cat([mask.reshape(-1) for mask in masks.values()]).tolist() == bits


def test_names_of_older_numpy(tmp_path: Path) -> None:
    array = np.empty(2, dtype=object)
    array[0], array[1] = np.ones((2, 3)), torch.ones(3, 2, 1, 1)
    modern = pickle.dumps(array, 2)
    older = modern.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert older != modern
    assert read_masks(save_pickle(tmp_path / "a.npy", older), WEIGHTS).total_kept == 12


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "b1", "u1", "i8", "u4", ">f4", ">u2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_plain_array_of_masks_of_one_shape(tmp_path: Path, dtype: str, order: Any) -> None:
    masks = np.arange(24).reshape(2, 3, 4) % 5 == 0
    np.save(tmp_path / "a.npy", np.asarray(masks.astype(dtype), order=order))
    weights = {"a.weight": torch.ones(3, 4), "b.weight": torch.ones(3, 4)}
    found = read_masks(tmp_path / "a.npy", weights)
    assert [found[name].tolist() for name in weights] == masks.tolist()


def test_a_network_of_one_tensor(tmp_path: Path) -> None:
    mask = np.eye(3, dtype=np.float32)
    weights = {"weight": torch.ones(3, 3)}
    for array in (mask, mask[None]):
        np.save(tmp_path / "a.npy", array)
        assert read_masks(tmp_path / "a.npy", weights)["weight"].tolist() == (mask == 1).tolist()


@pytest.mark.parametrize(
    ("items", "sentence"),
    [
        (
            [torch.ones(2, 3)],
            r"a\.npy holds 1 masks, but the network has 2 prunable tensors; give the weights that the masks were "
            r"made for$",
        ),
        ([*ones(), torch.ones(1)], "holds 3 masks, but the network has 2 prunable tensors"),
        ([], "holds 0 masks, but the network has 2"),
        (
            [torch.ones(2, 3), torch.ones(3, 2)],
            r"holds a mask of shape \[3, 2\] at position 1, but b\.weight has \[3, 2, 1, 1\]; give the weights that "
            "the masks were made for, in the network's order$",
        ),
        (ones()[::-1], r"shape \[3, 2, 1, 1\] at position 0, but a\.weight has \[2, 3\]"),
        (
            [torch.ones(2, 3) / 2, ones()[1]],
            r"other values than 0 and 1 at position 0, for a\.weight; it is not a mask$",
        ),
        ([ones()[0], -ones()[1]], r"at position 1, for b\.weight"),
        ([ones()[0], ones()[1] * float("nan")], r"at position 1, for b\.weight"),
        ([np.full((2, 3), 258, dtype=np.uint16), ones()[1]], r"at position 0, for a\.weight"),
    ],
)
def test_masks_of_another_network(tmp_path: Path, items: list[Any], sentence: str) -> None:
    with pytest.raises(MaskError, match=sentence) as refused:
        read_masks(save(tmp_path / "a.npy", items), WEIGHTS)
    assert "\n" not in str(refused.value)


def test_weights_without_prunable_tensors(tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match="no prunable tensor"):
        read_masks(save(tmp_path / "a.npy", []), {"bias": torch.ones(2)})


@pytest.mark.parametrize("array", [np.ones((3, 2, 3)), np.ones(1_000_000), np.ones((2, 2))])
def test_a_plain_array_that_does_not_fit(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(MaskError, match=r"a\.npy holds [\d,]+ masks, but|holds a mask of shape"):
        read_masks(tmp_path / "a.npy", WEIGHTS)
