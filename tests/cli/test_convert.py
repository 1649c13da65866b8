import json
import resource
import subprocess
import sys

import pytest
import torch
from tests.cli.commands import assert_same, error, gpmt, multiplied_weights, sparse_weights
from tests.formats.checkpoints import assert_same as assert_same_bits
from torch.nn.utils import prune

import gpmt as package
from gpmt.masks import Masks


def test_the_output_may_be_an_option_as_elsewhere(pruned: str):
    for option in ("-o", "--output", "--out"):
        gpmt("convert", pruned, option, f"{option}.pt")
        assert_same(f"{option}.pt", sparse_weights())
    for arguments in ((), ("a.pt", "-o", "b.pt")):
        assert error("convert", pruned, *arguments) == "give the file to write once, as OUT or with -o"


def test_there_and_back(pruned):
    result = gpmt("convert", pruned, "a.sparse.safetensors")
    assert "wrote a.sparse.safetensors" in result.stdout
    gpmt("convert", "a.sparse.safetensors", "b.safetensors", "--quiet")
    gpmt("convert", "b.safetensors", "c.pt")
    for path in ("a.sparse.safetensors", "b.safetensors", "c.pt"):
        assert_same(path, sparse_weights())
        assert "equal" in gpmt("diff", pruned, path).stdout


def test_every_command_reads_a_sparse_file(pruned):
    gpmt("export", "sparse", pruned, "-o", "a.sparse.safetensors")
    shown = json.loads(gpmt("inspect", "a.sparse.safetensors", "--json").stdout)
    assert (shown["format"], shown["weights"]) == ("sparse file", 10_296)
    gpmt("verify", "a.sparse.safetensors", "--sparsity", "0.9")
    gpmt("prune", "a.sparse.safetensors", "-o", "b.sparse.safetensors", "--sparsity", "0.95")
    gpmt("verify", "b.sparse.safetensors", "--sparsity", "0.95")
    with package.SparseFile("b.sparse.safetensors") as file:
        assert file.masks().total_pruned == 9_781


def test_values_in_fewer_bits(pruned):
    facts = json.loads(gpmt("convert", pruned, "a.sparse.safetensors", "--values", "int8", "--json").stdout)
    assert 0 < facts["error"] < 0.1
    gpmt("verify", "a.sparse.safetensors", "--sparsity", "0.9")
    assert error("convert", pruned, "b.pt", "--values", "fp16") == (
        "--values fp16 is for sparse files; let b.pt end in .sparse.safetensors"
    )
    assert "values is 'x', but must be one of" in error(
        "convert", pruned, "b.sparse.safetensors", "--values", "x"
    )


def test_masks_of_other_tools(pruned):
    layer = torch.nn.Linear(20, 20)
    prune.l1_unstructured(layer, "weight", amount=0.5)
    torch.save(layer.state_dict(), "torch.pt")
    result = gpmt("convert", "torch.pt", "plain.pt", "--masks", "masks.safetensors")
    assert "its masks prune 200 of 400 weights" in result.stdout
    assert Masks.load("masks.safetensors", of=package.load("plain.pt").state_dict).total_pruned == 200
    torch.save(
        {name: torch.ones_like(t) for name, t in package.load("plain.pt").state_dict.items()}, "ones.pt"
    )
    gpmt("convert", "masks.safetensors", "again.pt", "--weights", "ones.pt")
    assert int(package.load("again.pt").state_dict["weight"].sum()) == 200
    assert "holds masks alone (masks of gpmt)" in error("convert", "masks.safetensors", "x.pt")
    assert "has no masks beside its zeros (torch.save); leave out --masks" in error(
        "convert", pruned, "x.pt", "--masks", "m.safetensors"
    )


def test_damage(pruned, tmp_path):
    gpmt("convert", pruned, "a.sparse.safetensors")
    raw = bytearray((tmp_path / "a.sparse.safetensors").read_bytes())
    raw[-4] ^= 1  # in the last of the dense tensors
    (tmp_path / "a.sparse.safetensors").write_bytes(raw)
    assert "fc.bias does not match its checksum" in error("convert", "a.sparse.safetensors", "b.pt")
    result = gpmt("convert", "a.sparse.safetensors", "b.pt", "--skip-bad")
    assert "left out: a.sparse.safetensors: fc.bias does not match" in result.stderr
    assert list(package.load("b.pt").state_dict) == [name for name in sparse_weights() if name != "fc.bias"]
    assert (tmp_path / "a.sparse.safetensors").read_bytes() == bytes(raw)


def test_outputs_are_looked_at_first(pruned):
    assert "b.txt has the suffix .txt" in error("convert", pruned, "b.txt")
    assert "pruned.pt exists; give another name" in error("convert", pruned, pruned)
    assert "is named twice, or is the input" in error("convert", pruned, pruned, "--force")
    assert "FORMAT is tflite, but must be one of sparse, dense, onnx" in error(
        "export", "tflite", pruned, "-o", "x"
    )
    assert "--values int8 is for sparse files, not for dense" in error(
        "export", "dense", pruned, "-o", "x.pt", "--values", "int8"
    )
    assert "does not say which network it belongs to; name it with --model" in error(
        "export", "onnx", pruned, "-o", "x.onnx"
    )
    assert "has the suffix of sparse files" in error("export", "dense", pruned, "-o", "x.sparse.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("out", ["a.sparse.safetensors", "a.safetensors", "a.pt"])
def test_a_full_disk(pruned, tmp_path, out):
    before = (tmp_path / pruned).read_bytes()

    def small_files():  # the system's own limit: a write past it fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    command = [sys.executable, "-m", "gpmt", "convert", pruned, out]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=small_files)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{out} cannot be written: no space left in" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [pruned]
    assert (tmp_path / pruned).read_bytes() == before


def test_signs_of_zeros(multiplied):
    signs = package.save_sparse(multiplied_weights(), "expected").negative_zeros
    shown = gpmt("convert", multiplied, "a.sparse.safetensors").stdout
    assert f"\n{signs:,} negative zeros are read back as 0.0; --keep-signed-zeros keeps the signs\n" in shown
    kept = gpmt("convert", multiplied, "b.sparse.safetensors", "--keep-signed-zeros", "--json")
    assert json.loads(kept.stdout)["negative_zeros"] == 0
    assert_same_bits(package.load("b.sparse.safetensors").state_dict, multiplied_weights())
    assert error("convert", multiplied, "c.pt", "--keep-signed-zeros") == (
        "--keep-signed-zeros is for sparse files; leave it out, c.pt keeps them"
    )
