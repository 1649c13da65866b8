"""The folders are written by huggingface_hub where its form matters, and by hand where it is broken."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.formats.checkpoints import assert_same
from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import save_checkpoint
from gpmt.formats.hub_folder import read_hub_folder


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "encoder.1.weight": torch.randn(4, 3, generator=generator),
        "encoder.0.weight": torch.randn(4, 4, generator=generator).to(torch.bfloat16),
        "head.weight": torch.randn(2, 4, generator=generator),
        "head.bias": torch.zeros(2),
    }


def write_shards(folder: Path, **changes: Any) -> dict[str, str]:
    """Two shards and their index, whose weight_map is returned; a change of None leaves a file out."""
    shards = {
        "a-00001.safetensors": ["encoder.0.weight", "head.bias"],
        "a-00002.safetensors": ["head.weight"],
    }
    shards["a-00002.safetensors"].append("encoder.1.weight")
    where = {name: shard for shard, names in shards.items() for name in names}
    listed = {name: where[name] for name in weights()}
    for shard, names in shards.items():
        save_file({name: weights()[name] for name in names}, folder / shard, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": listed | changes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return listed


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("sharded", [True, False], ids=["sharded", "whole"])
@pytest.mark.parametrize("pattern", ["model{suffix}", "diffusion_pytorch_model{suffix}"])
def test_what_hugging_face_writes(tmp_path: Path, safe: bool, sharded: bool, pattern: str) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="writes the folders")
    suffix = "{suffix}.safetensors" if safe else "{suffix}.bin"
    stem = pattern if safe or "diffusion" in pattern else f"pytorch_{pattern}"
    hub.save_torch_state_dict(
        weights(),
        tmp_path,
        filename_pattern=stem.replace("{suffix}", suffix),
        max_shard_size=60 if sharded else "5GB",
        safe_serialization=safe,
    )
    written = os.listdir(tmp_path)
    assert any(name.endswith(".index.json") for name in written) == sharded
    assert len(written) == (4 if sharded else 1)
    checkpoint = read_hub_folder(tmp_path)
    assert (checkpoint.path, checkpoint.source, checkpoint.masks) == (tmp_path, "Hugging Face folder", None)
    assert_same(dict(sorted(checkpoint.state_dict.items())), dict(sorted(weights().items())))
    if not safe:
        assert list(checkpoint.state_dict) == list(weights())


def test_the_order_is_that_of_the_index(tmp_path: Path) -> None:
    write_shards(tmp_path)
    checkpoint = read_hub_folder(tmp_path)
    assert_same(checkpoint.state_dict, weights())
    assert checkpoint.metadata == {"format": "pt"}
    assert_same(read_hub_folder(tmp_path / "model.safetensors.index.json").state_dict, weights())


def test_what_is_read_can_be_written(tmp_path: Path) -> None:
    write_shards(tmp_path)
    for name in ("out.safetensors", "out.pt"):
        save_checkpoint(tmp_path / name, read_hub_folder(tmp_path))
    assert_same(torch.load(tmp_path / "out.pt"), weights())


def test_tensors_that_the_index_forgot_come_last(tmp_path: Path) -> None:
    listed = write_shards(tmp_path)
    del listed["encoder.1.weight"]
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    assert list(read_hub_folder(tmp_path).state_dict) == [*listed, "encoder.1.weight"]


@pytest.mark.parametrize(
    ("first", "second", "prefix"),
    [
        ("module.", "module.", "module."),
        ("module.", "", ""),
        ("_orig_mod.module.", "_orig_mod.", "_orig_mod."),
        ("_orig_mod.", "module.", ""),
    ],
)
def test_a_prefix_is_one_only_in_all_shards(tmp_path: Path, first: str, second: str, prefix: str) -> None:
    torch.save({f"{first}a": torch.ones(1)}, tmp_path / "1.bin")
    torch.save({f"{second}b": torch.ones(2)}, tmp_path / "2.bin")
    index = {"weight_map": {f"{first}a": "1.bin", f"{second}b": "2.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    checkpoint = read_hub_folder(tmp_path)
    assert checkpoint.prefix == prefix
    assert [prefix + name for name in checkpoint.state_dict] == [f"{first}a", f"{second}b"]
    assert list(checkpoint.original) == [f"{first}a", f"{second}b"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {}),
        (
            {"architectures": ["BertForMaskedLM", "B"], "model_type": "bert", "torch_dtype": "float16"},
            {"architectures": "BertForMaskedLM, B", "model_type": "bert", "dtype": "float16"},
        ),
        (
            {"_class_name": "UNet2DModel", "dtype": "float32"},
            {"architectures": "UNet2DModel", "dtype": "float32"},
        ),
        ({"architecture": "resnet50", "num_classes": 1000}, {"architectures": "resnet50"}),
        ({"architectures": None, "model_type": 3, "dtype": []}, {}),
        ({"quantization_config": {"b": [1]}}, {"quantization_config": '{"b": [1]}'}),
        ({"quantization_config": None, "compression_config": {}}, {"compression_config": "{}"}),
    ],
)
def test_what_the_config_says(tmp_path: Path, config: Any, expected: dict[str, str]) -> None:
    save_file(weights(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_hub_folder(tmp_path).metadata == {"format": "pt"} | expected


def test_safetensors_come_before_pickles_and_variants_last(tmp_path: Path) -> None:
    torch.save({"pickle": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert list(read_hub_folder(tmp_path).state_dict) == ["pickle"]
    save_file({"whole": torch.ones(1)}, tmp_path / "model.safetensors")
    save_file({"half": torch.ones(1)}, tmp_path / "model.fp16.safetensors")
    assert list(read_hub_folder(tmp_path).state_dict) == ["whole"]
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").unlink()
    assert list(read_hub_folder(tmp_path).state_dict) == ["half"]
    save_file({"other": torch.ones(1)}, tmp_path / "b.safetensors")
    message = r"holds several networks \(b\.safetensors, model\.fp16\.safetensors\); give one of these files$"
    with pytest.raises(CheckpointError, match=message):
        read_hub_folder(tmp_path)


def test_folders_without_weights(tmp_path: Path) -> None:
    message = (
        r"is a folder without weights, such as model\.safetensors; give a checkpoint file, or a folder that"
    )
    with pytest.raises(CheckpointError, match=message):
        read_hub_folder(tmp_path)
    for name in ("vae", "unet", "scheduler"):
        (tmp_path / name).mkdir()
    for name in ("vae", "unet"):
        save_file(weights(), tmp_path / name / "diffusion_pytorch_model.safetensors")
    with pytest.raises(CheckpointError, match=r"holds networks in its folders unet, vae; give one of them$"):
        read_hub_folder(tmp_path)
    with pytest.raises(CheckpointError, match=r"names 'none\.index\.json', which is missing in"):
        read_hub_folder(tmp_path / "none.index.json")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"x": "../a-00001.safetensors"},
            r"index\.json names '\.\./a-00001\.safetensors', which may lie outside",
        ),
        ({"x": "/etc/passwd"}, r"index\.json names '/etc/passwd', which may lie outside"),
        (
            {"x": "a-00003.safetensors"},
            r"names 'a-00003\.safetensors', which is missing in .*; copy or download",
        ),
        ({"x": 3}, r"says that tensor 'x' is in 3, which is not a file; download the index again$"),
        ({"x": ["a"]}, r"says that tensor 'x' is in list, which is not a file"),
        (
            {"x": "a-00001.safetensors"},
            r"says that tensor 'x' is in 'a-00001\.safetensors', but it is not; download both again$",
        ),
        ({"head.bias": "a-00002.safetensors"}, r"says that tensor 'head\.bias' is in .*, but it is not"),
        (
            {"x": "model.safetensors.index.json"},
            r"index\.json is neither a file of torch\.save nor of safetensors",
        ),
    ],
)
def test_an_index_that_lies(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    write_shards(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=sentence) as refused:
        read_hub_folder(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write_shards(tmp_path)
    write_shards(folder)
    (folder / "a-00001.safetensors").unlink()
    try:
        (folder / "a-00001.safetensors").symlink_to(tmp_path / "a-00001.safetensors")
    except OSError:
        pytest.skip("links cannot be made here")
    with pytest.raises(CheckpointError, match=r"a link that leads out of .*folder; put a copy in its place$"):
        read_hub_folder(folder)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path)
    whole = (tmp_path / "a-00002.safetensors").read_bytes()
    (tmp_path / "a-00002.safetensors").write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match=r"a-00002\.safetensors is truncated or damaged"):
        read_hub_folder(tmp_path)


JSON = {
    "": r"is not readable as JSON \(Expecting value",
    "{": "is not readable as JSON",
    "[1]": r"holds a JSON list, not an object; copy or download it again$",
    '"text"': "holds a JSON str, not an object",
    "[" * 100_000: "is not readable as JSON",
    '{"a": ' * 100_000: "is not readable as JSON",
    "{}\xff": "is not readable as JSON",
    '{"a": 1' + "0" * 5000 + "}": "is not readable as JSON",
}


@pytest.mark.parametrize("text", JSON, ids=range(len(JSON)))
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_json_that_is_not_what_it_should_be(tmp_path: Path, name: str, text: str) -> None:
    write_shards(tmp_path)
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=f"{name} {JSON[text]}") as refused:
        read_hub_folder(tmp_path)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "index", ["{}", '{"weight_map": {}}', '{"weight_map": ["a"]}', '{"weight_map": null}']
)
def test_an_index_without_a_map(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(
        CheckpointError, match=r"index\.json has no weight_map, which says where each tensor is"
    ):
        read_hub_folder(tmp_path)


@pytest.mark.parametrize(("name", "limit"), [("config.json", 16), ("model.safetensors.index.json", 128)])
def test_json_without_end_is_not_read(tmp_path: Path, name: str, limit: int) -> None:
    save_file(weights(), tmp_path / "shard.safetensors")
    write_shards(tmp_path)
    with (tmp_path / name).open("wb") as file:
        file.truncate(limit * 2**20 + 1)  # a hole in the file, that takes no space
    with pytest.raises(
        CheckpointError, match=rf"{name} is larger than {limit} MiB, which no such file is; check it$"
    ):
        read_hub_folder(tmp_path)
