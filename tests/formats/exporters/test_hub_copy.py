"""Folders are written by transformers or by hand, pruned in memory, and written again."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.exporters.hub_copy import copy_hub_folder
from gpmt.formats.load import load
from gpmt.prune import prune_


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(6, 5, generator=generator),
        "b.weight": torch.randn(4, 6, generator=generator).to(torch.bfloat16),
        "b.bias": torch.randn(4, generator=generator).to(torch.float16),
        "counter": torch.tensor(7),
        "empty": torch.zeros(0, 3),
    }


def write(folder: Path, *, pickled: bool = False, sharded: bool = True) -> Path:
    """A folder with one or two files of weights, and files beside them."""
    folder.mkdir()
    stem, suffix = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    names = list(weights())
    groups = [names[:2], names[2:]] if sharded else [names]
    shards = {f"{stem}-{i}{'.' + suffix}": group for i, group in enumerate(groups)} if sharded else {}
    for file, group in (shards or {f"{stem}.{suffix}": names}).items():
        content = {name: weights()[name] for name in group}
        if pickled:
            torch.save({f"module.{name}": tensor for name, tensor in content.items()}, folder / file)
        else:
            save_file(content, folder / file, metadata={"format": "pt", "note": "kept"})
    if sharded:
        prefix = "module." if pickled else ""
        where = {prefix + name: file for file, group in shards.items() for name in group}
        index = {"metadata": {"total_size": 1}, "weight_map": where}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"model_type":   "none"}')
    (folder / "tokenizer.json").write_bytes(bytes(range(256)))
    (folder / "1_Pooling" / "deep").mkdir(parents=True)
    (folder / "1_Pooling" / "deep" / "config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_text("of another network")
    return folder


def pruned(folder: Path) -> Checkpoint:
    checkpoint = load(folder)
    prune_(checkpoint.state_dict, sparsity=0.5)
    return checkpoint


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("sharded", [True, False], ids=["sharded", "whole"])
@pytest.mark.parametrize("pickled", [True, False], ids=["bin", "safetensors"])
def test_only_pruned_weights_change(tmp_path: Path, pickled: bool, sharded: bool) -> None:
    source = write(tmp_path / "in", pickled=pickled, sharded=sharded)
    checkpoint = pruned(source)
    assert copy_hub_folder(checkpoint, tmp_path / "out") == ()
    before, after = files(source), files(tmp_path / "out")
    assert sorted(after) == sorted(before)
    first = "pytorch_model" if pickled else "model"
    assert {name for name in before if before[name] != after[name]} <= {
        name for name in before if name.startswith(first) and not name.endswith(".json")
    }
    assert before != after
    again = load(tmp_path / "out").state_dict
    assert list(again) == list(load(source).state_dict)
    assert {name: (t.dtype, t.shape) for name, t in again.items()} == {
        name: (t.dtype, t.shape) for name, t in weights().items()
    }
    for name, tensor in weights().items():
        kept = again[name] != 0
        assert torch.equal(again[name], tensor * kept), name
    assert sum(int((again[name] == 0).sum()) for name in ("a.weight", "b.weight")) == 27
    if not pickled:
        for name in before:
            if name.startswith("model") and name.endswith(".safetensors"):
                size = int.from_bytes(before[name][:8], "little") + 8
                assert after[name][:size] == before[name][:size]
                assert len(after[name]) == len(before[name])


def test_the_same_network_in_other_files_is_left_out(tmp_path: Path) -> None:
    source = write(tmp_path / "in")
    for name in ("pytorch_model.bin", "tf_model.h5", "model.fp16.safetensors", "model-q4.gguf", "model.onnx"):
        (source / name).write_text("dense")
    for name in ("onnx", "checkpoint-500", ".git"):
        (source / name).mkdir()
        (source / name / "weights").write_text("dense")
    (source / "model_card.txt").write_text("kept")
    left_out = copy_hub_folder(pruned(source), tmp_path / "out")
    assert left_out == (
        "checkpoint-500",
        "model-q4.gguf",
        "model.fp16.safetensors",
        "model.onnx",
        "onnx",
        "pytorch_model.bin",
        "tf_model.h5",
    )
    written = os.listdir(tmp_path / "out")
    assert not {*left_out, ".git"} & set(written)
    assert {"model_card.txt", "adapter_model.safetensors", "1_Pooling"} <= set(written)


def test_by_the_name_of_the_index(tmp_path: Path) -> None:
    source = write(tmp_path / "in")
    save_file({"x.weight": torch.ones(2, 2)}, source / "model.safetensors")
    checkpoint = pruned(source / "model.safetensors.index.json")
    assert copy_hub_folder(checkpoint, tmp_path / "out") == ("model.safetensors",)
    assert list(load(tmp_path / "out").state_dict) == list(weights())


def test_a_folder_of_the_cache_gives_plain_files(tmp_path: Path) -> None:
    """The cache of Hugging Face holds links to blobs with hashes for names."""
    source = write(tmp_path / "plain")
    snapshot, blobs = tmp_path / "models--x" / "snapshots" / "0f", tmp_path / "models--x" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, name in enumerate(sorted(os.listdir(source))):
        if (source / name).is_file():
            shutil.copyfile(source / name, blobs / str(number))
            (snapshot / name).symlink_to(f"../../blobs/{number}")
    copy_hub_folder(pruned(snapshot), tmp_path / "out")
    assert not any(file.is_symlink() for file in (tmp_path / "out").iterdir())
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == bytes(range(256))


def test_a_link_out_of_the_folder_is_not_copied(tmp_path: Path) -> None:
    source = write(tmp_path / "in")
    (tmp_path / "secret").write_text("secret")
    (source / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(
        CheckpointError, match=r"names 'notes\.txt', a link that leads out of .*in; put a copy"
    ):
        copy_hub_folder(pruned(source), tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["in", "secret"]


def test_in_place_and_again(tmp_path: Path) -> None:
    source = write(tmp_path / "in")
    checkpoint = pruned(source)
    with pytest.raises(CheckpointError, match="in exists already"):
        copy_hub_folder(checkpoint, source)
    copy_hub_folder(checkpoint, tmp_path / "out")
    copy_hub_folder(checkpoint, tmp_path / "out", force=True)
    copy_hub_folder(checkpoint, source, force=True)
    assert files(source) == files(tmp_path / "out")
    (source / "tf_model.h5").write_text("dense")
    with pytest.raises(CheckpointError, match=r"in holds tf_model\.h5, which would not be written again"):
        copy_hub_folder(load(source), source, force=True)
    assert (source / "tf_model.h5").exists()


def test_what_cannot_be_written_again(tmp_path: Path) -> None:
    source = write(tmp_path / "in")
    checkpoint = pruned(source)
    with pytest.raises(
        CheckpointError, match=r"in/out and .*in are inside each other; choose another folder$"
    ):
        copy_hub_folder(checkpoint, source / "out")
    torch.save(weights(), tmp_path / "net.pt")
    message = (
        r"net\.pt holds the weights in another form than a network has them \(torch\.save\), so its files"
    )
    with pytest.raises(CheckpointError, match=message):
        copy_hub_folder(load(tmp_path / "net.pt"), tmp_path / "out")
    state = load_file(source / "model-0.safetensors")
    save_file(state | {"new": torch.ones(1)}, source / "model-0.safetensors")
    with pytest.raises(
        CheckpointError, match=r"model-0\.safetensors has changed since it was read \(new\); run"
    ):
        copy_hub_folder(checkpoint, tmp_path / "out")
    save_file(state | {"a.weight": torch.ones(2, 2)}, source / "model-0.safetensors")
    with pytest.raises(
        CheckpointError, match=r"has changed since it was read \(a\.weight\); run this again$"
    ):
        copy_hub_folder(checkpoint, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["in", "net.pt"]


def test_transformers_opens_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="gpmt[hf] is not installed")
    settings = transformers.GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    module = transformers.GPT2LMHeadModel(settings)
    module.save_pretrained(tmp_path / "in", max_shard_size="8KB")
    checkpoint = pruned(tmp_path / "in")
    copy_hub_folder(checkpoint, tmp_path / "out")
    again, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(report.values())
    assert type(again) is type(module)
    state = again.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in checkpoint.state_dict.items())
    assert int((state["transformer.h.0.mlp.c_fc.weight"] == 0).sum()) > 200
