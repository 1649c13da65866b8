import json
import shutil

import torch
from tests.cli.commands import PRUNED, error, gpmt, sparse_weights

import gpmt as gpmt_package
import gpmt as package


def test_diff(dense: str) -> None:
    assert "equal: 4 tensors, 314 values" in gpmt("diff", dense, dense).stdout
    gpmt("prune", dense, "-o", "out.safetensors", "--sparsity", "0.9")
    printed = gpmt("diff", dense, "out.safetensors", code=1).stdout
    assert f"differ: {PRUNED} of 314 values in 2 of 4 common tensors" in printed
    assert f"zeros: 0 only in {dense}, {PRUNED} only in out.safetensors, 10 in both" in printed
    document = json.loads(gpmt("diff", dense, "out.safetensors", "--json", code=1).stdout)
    assert document["equal"] is False
    assert sum(row["zeros_only_b"] for row in document["tensors"]) == PRUNED


def test_diff_of_unlike_files() -> None:
    torch.save({"a": torch.ones(2), "b": torch.ones(2), "c": torch.tensor([1.0, float("nan")])}, "1.pt")
    torch.save({"b": torch.ones(3), "c": torch.ones(2), "d": torch.ones(2)}, "2.pt")
    printed = gpmt("diff", "1.pt", "2.pt", code=1).stdout
    assert "only in 1.pt: a" in printed
    assert "only in 2.pt: d" in printed
    assert "b: [2] float32 in 1.pt, [3] float32 in 2.pt" in printed
    document = json.loads(gpmt("diff", "1.pt", "2.pt", "--json", code=1).stdout)
    assert document["tensors"][0]["largest"] is None
    assert error("diff", "1.pt", "3.pt") == "3.pt does not exist; check the path"


def test_a_negative_zero_is_a_zero_for_every_command(pruned: str, multiplied: str) -> None:
    assert "equal: 5 tensors" in gpmt("diff", pruned, multiplied).stdout
    facts = [json.loads(gpmt("inspect", path, "--json").stdout) for path in (pruned, multiplied)]
    assert facts[0]["kept"] == facts[1]["kept"] == 1_030
    assert facts[0]["tensors"] == facts[1]["tensors"]
    masks = package.Masks.from_dense({name: tensor != 0 for name, tensor in sparse_weights().items()})
    masks.save("masks.safetensors")
    gpmt(
        "verify",
        multiplied,
        "--sparsity",
        "0.9",
        "--masks",
        "masks.safetensors",
        "--scope",
        "*.weight",
        "--exclude",
        "bn*",
    )


def test_diff_of_masks(dense: str) -> None:
    for sparsity, name in (("0.5", "a"), ("0.75", "b")):
        gpmt("prune", dense, "-o", f"{name}.pt", "--sparsity", sparsity, "--masks", f"{name}.safetensors")
    printed = gpmt("diff", "a.safetensors", "b.safetensors", code=1).stdout
    assert "zeros: 0 only in a.safetensors, 74 only in b.safetensors, 148 in both" in printed


def test_runs_are_compared_by_their_weights_and_not_by_their_masks(run: str) -> None:
    shutil.copytree(run, "other")
    assert "equal: " in gpmt("diff", run, "other").stdout
    shutil.copyfile("other/dense.pt", "other/model.pt")
    document = json.loads(gpmt("diff", run, "other", "--json", code=1).stdout)
    assert (document["a"], document["b"]) == ("run", "other")
    pruned = gpmt_package.Masks.load("run/masks.safetensors").total_pruned
    assert sum(row["zeros_only_a"] for row in document["tensors"]) == pruned > 0
    assert "equal: " in gpmt("diff", run, "run/model.pt").stdout


def test_masks_are_not_compared_with_weights(run: str) -> None:
    assert error("diff", "run/masks.safetensors", run) == (
        "run/masks.safetensors holds masks, and run holds weights; give two files with weights, or two with masks"
    )
