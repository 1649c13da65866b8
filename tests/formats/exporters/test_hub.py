import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version
from safetensors.torch import load_file
from tests.formats.exporters.networks import pruned, small
from torch import Tensor, nn

from gpmt.errors import CheckpointError, ScopeError
from gpmt.formats.exporters.hub import export_hub
from gpmt.formats.hub_folder import read_hub_folder


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def config(folder: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return held


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(actual) == set(expected)
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype, name
        assert torch.equal(actual[name], tensor), name


def test_any_module(tmp_path: Path) -> None:
    module = small()
    assert export_hub(module, tmp_path / "net") == tmp_path / "net"
    assert names(tmp_path) == ["net"]
    assert names(tmp_path / "net") == ["README.md", "config.json", "model.safetensors"]
    assert config(tmp_path / "net") == {"architecture": "Small"}
    assert_same(load_file(tmp_path / "net" / "model.safetensors"), module.state_dict())
    checkpoint = read_hub_folder(tmp_path / "net")
    assert list(checkpoint.state_dict) == list(module.state_dict())
    assert checkpoint.metadata["architectures"] == "Small"
    card = (tmp_path / "net" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: pytorch\n")
    assert "\n# net\n" in card
    assert module.training


def test_a_state_dict_with_a_config_and_a_card(tmp_path: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in small().state_dict().items()}
    export_hub(
        state, tmp_path / "net", config={"architecture": "resnet20", "classes": [1]}, card="# My own\n"
    )
    assert config(tmp_path / "net") == {"architecture": "resnet20", "classes": [1]}
    assert (tmp_path / "net" / "README.md").read_text() == "# My own\n"
    assert_same(load_file(tmp_path / "net" / "model.safetensors"), state)


def test_files_are_readable_as_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    export_hub(small(), tmp_path / "net")
    modes = {file.stat().st_mode for file in (tmp_path / "net").iterdir()}
    assert modes == {(tmp_path / "plain").stat().st_mode}


@pytest.mark.parametrize("size", [1, 600, "1KB", "1KiB"])
def test_shards(tmp_path: Path, size: int | str) -> None:
    module = small()
    module.tied = module.mix
    export_hub(module, tmp_path / "net", shard_size=size)
    index = json.loads((tmp_path / "net" / "model.safetensors.index.json").read_text())
    held: dict[str, Tensor] = {}
    limit = {"1KB": 1000, "1KiB": 1024}.get(str(size), size)
    for file in sorted(set(index["weight_map"].values())):
        shard = load_file(tmp_path / "net" / file)
        assert len(shard) == 1 or sum(t.numel() * t.element_size() for t in shard.values()) <= limit
        assert {index["weight_map"][name] for name in shard} == {file}
        held |= shard
    assert len(set(index["weight_map"].values())) > 1
    assert_same(held, module.state_dict())
    assert_same(read_hub_folder(tmp_path / "net").state_dict, module.state_dict())
    assert "gpmt.load(folder)" in (tmp_path / "net" / "README.md").read_text()


def test_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="gpmt[hf] is not installed")
    settings = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    module = pruned(transformers.BertForMaskedLM(settings))  # its head is tied to its embedding
    for size, files in (("50GB", 1), ("10KB", 3)):
        folder = export_hub(module, tmp_path / str(files), shard_size=size, config={"pruned_by": "gpmt"})
        again = transformers.AutoModelForMaskedLM.from_pretrained(folder)
        assert type(again) is type(module)
        assert_same(again.state_dict(), module.state_dict())
        assert again.config.pruned_by == "gpmt"
        assert len(list(folder.glob("model*.safetensors"))) == files
        assert "library_name: transformers" in (folder / "README.md").read_text()
        assert_same(
            read_hub_folder(folder).state_dict,
            {name: tensor for name, tensor in module.state_dict().items() if "decoder" not in name},
        )


@pytest.mark.parametrize("options", [{}, {"in_chans": 1}], ids=["colour", "grey"])
def test_timm(tmp_path: Path, options: dict[str, int]) -> None:
    timm = pytest.importorskip("timm", reason="gpmt[train] is not installed")
    if options and Version(timm.__version__) < Version("1.0.31"):
        pytest.skip("timm before 1.0.31 does not read the number of channels from a folder")
    module = timm.create_model("resnet10t", num_classes=7, **options)
    module = pruned(module.to(memory_format=torch.channels_last))
    folder = export_hub(module, tmp_path / "net", shard_size="1MB")
    assert names(folder) == ["README.md", "config.json", "model.safetensors"]
    again = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert_same(again.state_dict(), module.state_dict())
    assert sum(int((p == 0).sum()) for p in again.parameters()) > 10**6
    assert "local-dir:" in (folder / "README.md").read_text()


def test_an_existing_folder_is_refused_unless_forced(tmp_path: Path) -> None:
    export_hub(small(), tmp_path / "net", shard_size=600)
    before = {file: (tmp_path / "net" / file).read_bytes() for file in names(tmp_path / "net")}
    with pytest.raises(
        CheckpointError, match=r"net exists already; choose another folder, or replace it with force$"
    ):
        export_hub(nn.Linear(4, 4), tmp_path / "net")
    assert before == {file: (tmp_path / "net" / file).read_bytes() for file in names(tmp_path / "net")}
    module = nn.Linear(4, 4)
    export_hub(module, tmp_path / "net", force=True)
    assert names(tmp_path) == ["net"]
    assert names(tmp_path / "net") == ["README.md", "config.json", "model.safetensors"]  # no shard of before
    assert_same(read_hub_folder(tmp_path / "net").state_dict, module.state_dict())


def test_force_never_deletes_what_no_export_writes(tmp_path: Path) -> None:
    export_hub(small(), tmp_path / "net")
    (tmp_path / "net" / "tokenizer.json").write_text("{}")
    with pytest.raises(
        CheckpointError, match=r"net holds tokenizer\.json, which would not be written again, so it"
    ):
        export_hub(small(), tmp_path / "net", force=True)
    assert "tokenizer.json" in names(tmp_path / "net")


def test_what_goes_wrong_leaves_everything_as_it_was(tmp_path: Path) -> None:
    export_hub(small(), tmp_path / "net")
    before = (tmp_path / "net" / "model.safetensors").read_bytes()
    with pytest.raises(ScopeError, match="no prunable tensor"):
        export_hub({"bias": torch.ones(3)}, tmp_path / "net", force=True)
    with pytest.raises(
        CheckpointError, match=r"^config cannot be written as JSON \(.*\); give plain values$"
    ):
        export_hub(small(), tmp_path / "net", config={"a": object()}, force=True)
    assert names(tmp_path) == ["net"]
    assert (tmp_path / "net" / "model.safetensors").read_bytes() == before


def test_a_folder_that_cannot_be_replaced_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_hub(small(), tmp_path / "net")
    before = (tmp_path / "net" / "model.safetensors").read_bytes()
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.suffix == ".tmp":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(CheckpointError, match=r"net cannot be written \(No space left on device\)"):
        export_hub(nn.Linear(4, 4), tmp_path / "net", force=True)
    assert names(tmp_path) == ["net"]
    assert (tmp_path / "net" / "model.safetensors").read_bytes() == before


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CheckpointError, match=r"net cannot be written: the folder .*gone does not exist; create it"
    ):
        export_hub(small(), tmp_path / "gone" / "net")
    with pytest.raises(
        CheckpointError, match=r"file is a file, but a folder is to be written; choose another name$"
    ):
        export_hub(small(), tmp_path / "file", force=True)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write to")
def test_a_folder_that_cannot_be_made() -> None:
    message = r"^/proc/net-x cannot be written \(.*\); choose another folder$"
    with pytest.raises(CheckpointError, match=message):
        export_hub(small(), "/proc/net-x")


def test_no_space(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs a limit on the size of files")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    message = (
        r"net/model\.safetensors cannot be written: no space left in .*/net; free some, or choose another"
    )
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
        with pytest.raises(CheckpointError, match=message):
            export_hub(nn.Linear(64, 64), tmp_path / "net")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == []


@pytest.mark.parametrize("size", [0, -1, "5 PB", "", "GB", "1.5GB"])
def test_sizes_that_are_none(tmp_path: Path, size: Any) -> None:
    with pytest.raises(
        CheckpointError, match=r"^shard_size is .*, but must be a number of bytes, or a text such as"
    ):
        export_hub(small(), tmp_path / "net", shard_size=size)
    assert names(tmp_path) == []
