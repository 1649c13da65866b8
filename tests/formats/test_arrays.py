from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import gpmt
from gpmt.errors import MaskError
from gpmt.formats.arrays import read_masks, read_weights
from gpmt.formats.checkpoint import save_checkpoint
from gpmt.formats.masks.rice import BLOCK
from gpmt.masks import Masks

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
]  # fmt: skip


def test_arrays_are_the_tensors_that_load_returns(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    generator = torch.Generator().manual_seed(0)
    state = {
        f"module.{number}.weight": (torch.randn(3, 7, generator=generator) * 50).to(dtype)
        for number, dtype in enumerate(DTYPES)
    }
    state |= {"module.scalar": torch.tensor(2.5), "module.empty": torch.ones(0, 4)}
    save_checkpoint(path, dict(reversed(state.items())))
    stored, loaded = read_weights(path), gpmt.load(path).state_dict
    found = stored.tensors
    assert (stored.source, stored.prefix, stored.tied) == ("safetensors", "module.", False)
    assert list(found) == list(loaded)
    for name, tensor in loaded.items():
        assert (found[name].dtype, found[name].shape) == (str(tensor.dtype)[6:], tuple(tensor.shape))
        values = np.concatenate(list(found[name].pieces(4)))
        assert values.tolist() == tensor.flatten().tolist()


@settings(max_examples=15)
@given(
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    shape=st.lists(st.integers(0, 300), min_size=1, max_size=2),
    kept=st.sampled_from([0.0, 0.01, 0.1, 0.9, 1.0]),
)
def test_sparse_files_are_decoded_as_load_does(
    tmp_path_factory, dtype: torch.dtype, shape: list[int], kept: float
):
    path = tmp_path_factory.mktemp("sparse") / "x.sparse.safetensors"
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(shape, generator=generator) < kept
    weights = torch.randn(shape, generator=generator).to(dtype) * mask
    state = {"a": weights, "b": torch.randn(70_000, generator=generator), "c": weights}
    masks = Masks.from_dense({"b": torch.arange(70_000) % 50 == 0}) if kept else None
    if masks:
        masks.apply_(state)
    gpmt.save_sparse(state, path, masks=masks)
    stored, loaded = read_weights(path), gpmt.load(path)
    assert list(stored.tensors) == list(loaded.state_dict)
    for name, tensor in loaded.state_dict.items():
        values = torch.from_numpy(np.concatenate(list(stored.tensors[name].pieces(BLOCK))))
        assert torch.equal(
            values.view(tensor.shape), tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        )
        assert stored.tensors[name].shape == tensor.shape
    masks = loaded.masks or Masks.from_dense({})
    assert {name: (code.kept, code.numel) for name, code in stored.masks.items()} == {
        name: (masks.kept(name), masks.numel(name)) for name in masks
    }
    assert (stored.source, stored.tied, stored.record) == (loaded.source, True, False)


@pytest.mark.parametrize(
    "name",
    [
        "fc.weight_orig",
        "fc.weight_mask",
        "fc._init_weights",
        "fc.bitmask",
        "fc.weight_packed",
        "nncf_module.a",
    ],
)
def test_names_of_other_tools_are_left_to_load(tmp_path: Path, name: str):
    save_file({name: torch.ones(2), "other.weight": torch.ones(2)}, tmp_path / "x.safetensors")
    assert read_weights(tmp_path / "x.safetensors") is None


def test_other_files_are_left_to_load(tmp_path: Path):
    state = {"a.weight": torch.arange(90_000.0).view(300, 300) * (torch.arange(300) % 9 == 0)}
    torch.save(state, tmp_path / "x.pt")
    gpmt.save_sparse(state, tmp_path / "x.sparse.safetensors", values="int8")
    gpmt.save_sparse(state, tmp_path / "y.sparse.safetensors")
    content = bytearray((tmp_path / "y.sparse.safetensors").read_bytes())
    content[-9] ^= 1
    (tmp_path / "y.sparse.safetensors").write_bytes(content)
    save_file({"a": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "eight.safetensors")
    save_file(state, tmp_path / "cut.safetensors")
    content = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-1])
    save_file(state, tmp_path / "packed.safetensors", metadata={"quantization_config": "{}"})
    for path in [*tmp_path.iterdir(), tmp_path]:
        assert read_weights(path) is None
        assert read_masks(path) is None


def test_masks_are_those_that_were_saved(tmp_path: Path):
    path = tmp_path / "m.safetensors"
    masks = Masks.from_dense(
        {"a": torch.arange(21).view(3, 7) % 3 == 0, "b": torch.zeros(0, 2, dtype=torch.bool)}
    )
    masks.save(path)
    found = read_masks(path)
    assert list(found) == ["a", "b"]
    for name, mask in found.items():
        assert (mask.dtype, mask.shape, mask.kept, mask.numel) == (
            "bool", masks.shape(name), masks.kept(name), masks.numel(name)
        )  # fmt: skip
        assert np.concatenate(list(mask.pieces(8))).tolist() == masks[name].flatten().tolist()
    assert read_weights(path) is None
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(MaskError, match="damaged"):
        read_masks(path)
