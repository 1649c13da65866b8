import gzip
from pathlib import Path

import pytest
import torch

import gpmt
from gpmt.report.content import sizes
from gpmt.report.content.sizes import sizes_of


def test_sizes_are_those_of_the_files(tmp_path: Path):
    torch.manual_seed(0)
    weight = torch.randn(64, 64) * (torch.rand(64, 64) < 0.1)
    tensors = {"fc.weight": weight, "tied.weight": weight, "fc.bias": torch.ones(64, dtype=torch.bfloat16)}
    found, missing = sizes_of(tensors, tmp_path / "model.pt")
    written = gpmt.save_sparse(tensors, tmp_path / "a.sparse.safetensors")
    packed = gzip.compress(
        weight.numpy().tobytes() + tensors["fc.bias"].view(torch.uint8).numpy().tobytes(), 6
    )
    assert found.dense == 64 * 64 * 4 + 64 * 2
    assert found.sparse == written.bytes == (tmp_path / "a.sparse.safetensors").stat().st_size
    assert found.gzip is not None
    assert abs(found.gzip - len(packed)) <= 20
    assert missing == []
    of_file, _ = sizes_of(tensors, tmp_path / "a.sparse.safetensors")
    assert of_file.sparse == written.bytes


def test_large_weights_are_compressed_in_part_and_that_is_said(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    tensors = {"w": torch.randn(256, 256) * (torch.rand(256, 256) < 0.2)}
    whole, _ = sizes_of(tensors, Path("model.pt"))
    monkeypatch.setattr(sizes, "_PIECE", 1 << 14)
    monkeypatch.setattr(sizes, "WHOLE", 1 << 16)
    found, [missing] = sizes_of(tensors, Path("model.pt"))
    assert missing.startswith(
        "gzip size in full: it is estimated from 65,536 of 262,144 bytes; gzip -6 -c model.pt"
    )
    assert found.gzip == pytest.approx(whole.gzip, rel=0.02)


def test_of_many_tensors_no_sparse_file_is_written(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sizes, "MOST_TENSORS", 0)
    found, [missing] = sizes_of({"w": torch.ones(2, 2)}, Path("x.pt"))
    assert found.sparse is None
    assert missing.startswith(
        "sparse size: of 1 tensors it is not written here; gpmt convert x.pt OUT.sparse."
    )
