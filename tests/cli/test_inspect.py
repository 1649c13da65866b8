import json
from pathlib import Path

import pytest
import torch
from tests.cli.commands import N, error, gpmt

from gpmt.formats import arrays
from gpmt.formats.checkpoint import save_checkpoint
from gpmt.formats.load import load
from gpmt.masks import Masks


def test_inspect(dense: str) -> None:
    printed = gpmt("inspect", dense).stdout
    assert "conv.weight  8×3×3×3" in printed
    assert f"0 of {N} weights are zero (0.0000%)" in printed
    assert "2 other tensors, not in scope, with 18 values" in printed
    assert "weights under state_dict, prefix module." in printed
    assert "also in it: epoch, best_acc1" in printed
    document = json.loads(gpmt("inspect", dense, "--json").stdout)
    assert document["format"] == "torch.save"
    assert (document["key"], document["prefix"], document["other_keys"]) == (
        "state_dict",
        "module.",
        ["epoch", "best_acc1"],
    )
    assert (document["weights"], document["kept"], document["dtypes"]) == (N, N, ["float32"])
    assert document["other_tensors"] == {"count": 2, "values": 18}


def test_several_files_at_once(dense: str, pruned: str):
    printed = gpmt("inspect", dense, pruned).stdout
    assert printed == gpmt("inspect", dense).stdout + "\n" + gpmt("inspect", pruned).stdout
    document = json.loads(gpmt("inspect", dense, pruned, "--json").stdout)
    assert document["files"] == [
        json.loads(gpmt("inspect", path, "--json").stdout) for path in (dense, pruned)
    ]
    assert gpmt("inspect", dense, pruned, "-q").output == ""
    assert error("inspect", dense, "missing.pt") == "missing.pt does not exist; check the path"


def test_inspect_formats_and_tied_tensors() -> None:
    shared = torch.ones(4, 2)
    tied = {"a.weight": shared, "b.weight": shared}
    torch.save(tied, "legacy.pt", _use_new_zipfile_serialization=False)
    save_checkpoint("tied.safetensors", tied)
    for name, described in (("legacy.pt", "torch.save's older format"), ("tied.safetensors", "safetensors")):
        printed = gpmt("inspect", name).stdout
        assert f"{name}: {described}, float32" in printed
        assert "tied, counted once: a.weight = b.weight" in printed
        document = json.loads(gpmt("inspect", name, "--json").stdout)
        assert document["weights"] == 8
        assert document["tensors"][0]["aliases"] == ["b.weight"]


@pytest.mark.parametrize(
    "name", ["x.safetensors", "module.safetensors", "x.sparse.safetensors", "masks.sparse.safetensors"]
)
def test_the_same_is_said_without_pytorch(pruned: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = load(pruned)
    if name.startswith("module"):
        checkpoint.state_dict = {f"module.{key}": tensor for key, tensor in checkpoint.state_dict.items()}
    if name.startswith("masks"):
        checkpoint.masks = Masks.from_dense({"big.weight": checkpoint.state_dict["big.weight"] != 0})
    checkpoint.container = checkpoint.key = None
    save_checkpoint(name, checkpoint)
    assert arrays.read_weights(Path(name)) is not None
    light = [gpmt("inspect", name, *options).stdout for options in ((), ("--json",))]
    monkeypatch.setattr(arrays, "read_weights", lambda path: None)
    assert light == [gpmt("inspect", name, *options).stdout for options in ((), ("--json",))]


def test_inspect_masks(dense: str) -> None:
    gpmt("prune", dense, "-o", "out.pt", "--sparsity", "0.5", "--masks", "masks.safetensors")
    assert (
        f"masks of 2 tensors; {N // 2} of {N} weights pruned (50.0000%)"
        in gpmt("inspect", "masks.safetensors").stdout
    )
    document = json.loads(gpmt("inspect", "masks.safetensors", "--json").stdout)
    assert (document["format"], document["pruned"]) == ("gpmt-masks", N // 2)
    assert document["digest"] == Masks.load("masks.safetensors").digest()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_lies_outside_the_scope_is_told(suffix: str) -> None:
    state = {"embed_tokens.weight": torch.ones(90, 10), "fc.weight": torch.eye(10)}
    save_checkpoint(f"model{suffix}", state)
    printed = gpmt("inspect", f"model{suffix}").stdout.splitlines()
    assert "9.0000% of the whole network, if nothing outside the scope is zero" in printed
    assert "outside: embed_tokens.weight 900 (embedding)" in printed
    assert "to prune such a tensor too, name it, as in --scope '*' --scope embed_tokens.weight" in printed
    document = json.loads(gpmt("inspect", f"model{suffix}", "--json").stdout)
    assert document["network_sparsity"] == 0.09
    assert document["coverage"]["outside"] == [
        {"name": "embed_tokens.weight", "weights": 900, "reason": "embedding"}
    ]
