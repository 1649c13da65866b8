import json
import os
from pathlib import Path

import pytest
import torch
from tests.cli.commands import PRUNED, N, error, gpmt, weights

from gpmt.formats.checkpoint import load_checkpoint
from gpmt.masks import Masks


@pytest.mark.parametrize("out", ["out.pt", "out.pth", "out.th", "out.tar", "out.safetensors"])
def test_prune_in_every_format(dense: str, out: str) -> None:
    printed = gpmt("prune", dense, "-o", out, "--sparsity", "0.9", "--min-kept", 5).stdout
    assert f"{PRUNED} of {N} weights pruned (89.8649%)" in printed
    assert f"wrote {out}" in printed
    pruned = load_checkpoint(out).state_dict
    assert sum(int((pruned[name] == 0).sum()) for name in ("conv.weight", "fc.weight")) == PRUNED
    assert torch.equal(pruned["bn.weight"], torch.ones(8))
    if out.endswith(".safetensors"):
        assert "left out, since safetensors holds only tensors: epoch, best_acc1" in printed
    else:
        held = torch.load(out)
        assert (held["epoch"], held["best_acc1"]) == (3, 91.5)
        assert list(held["state_dict"]) == [f"module.{name}" for name in weights()]
    gpmt("verify", out, "--sparsity", "90%", "--min-kept", 5)


def test_prune_writes_the_masks_it_used(dense: str) -> None:
    gpmt("prune", dense, "-o", "out.pt", "--sparsity", "0.5", "--masks", "masks.safetensors")
    masks = Masks.load("masks.safetensors", of=load_checkpoint("out.pt").state_dict)
    assert masks.total_pruned == N // 2
    gpmt("verify", "out.pt", "--sparsity", "0.5", "--masks", "masks.safetensors")
    gpmt("verify", dense, "--masks", "masks.safetensors", code=1)


def test_pruning_less_than_is_zero_already_is_noted(dense: str) -> None:
    gpmt("prune", dense, "-o", "sparse.pt", "--sparsity", "0.9")
    result = gpmt("prune", "sparse.pt", "-o", "again.pt", "--sparsity", "0.5")
    assert "note: 266 weights are zero, 118 more than asked for" in " ".join(result.stdout.split())
    assert "note:" not in gpmt("prune", "sparse.pt", "-o", "more.pt", "--sparsity", "0.95").stdout
    gpmt("diff", "sparse.pt", "again.pt")


def test_prune_scope_exclude_and_allocation(dense: str) -> None:
    document = json.loads(
        gpmt("prune", dense, "-o", "a.pt", "--sparsity", "0.5", "--exclude", "fc", "--json").stdout
    )
    assert [row["name"] for row in document["tensors"]] == ["conv.weight"]
    document = json.loads(
        gpmt(
            "prune", dense, "-o", "b.pt", "--sparsity", "0.5", "--scope", "fc.*", "--scope", "conv", "--json"
        ).stdout
    )
    assert [row["name"] for row in document["tensors"]] == ["conv.weight", "fc.weight"]
    command = ("prune", dense, "--sparsity", "0.5", "--allocation", "random", "--quiet", "-o")
    assert gpmt(*command, "c.pt", "--seed", 1).output == ""
    gpmt(*command, "d.pt", "--seed", 1)
    gpmt(*command, "e.pt", "--seed", 2)
    gpmt("diff", "c.pt", "d.pt")
    gpmt("diff", "c.pt", "e.pt", code=1)


def test_prune_json_is_one_document(dense: str) -> None:
    result = gpmt("prune", dense, "-o", "out.pt", "--sparsity", "0.9", "--json")
    document = json.loads(result.stdout)
    assert result.stderr == ""
    assert (document["input"], document["output"], document["masks"]) == (dense, "out.pt", None)
    assert (document["weights"], document["pruned"]) == (N, PRUNED)
    assert sum(row["kept"] for row in document["tensors"]) == N - PRUNED
    assert document["dense_macs"] is None


def test_existing_files_are_kept_without_force(dense: str) -> None:
    Path("out.pt").write_text("precious")
    command = ["prune", dense, "--sparsity", "0.5", "-o"]
    assert error(*command, "out.pt") == "out.pt exists; give another name, or --force to replace it"
    assert error(*command, dense) == f"{dense} exists; give another name, or --force to replace it"
    assert "out.pt exists" in error(*command, "new.pt", "--masks", "out.pt")
    assert Path("out.pt").read_text() == "precious"
    assert not Path("new.pt").exists()
    gpmt(*command, "out.pt", "--force")
    gpmt(*command, dense, "--force")
    gpmt("diff", "out.pt", dense)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope.pt", "-o", "out.pt"], "nope.pt does not exist; check the path"),
        (
            ["cut.pt", "-o", "out.pt"],
            "cut.pt is truncated or damaged (RuntimeError); copy or download it again",
        ),
        (["nan.pt", "-o", "out.pt"], "NaN"),
        (["bias.pt", "-o", "out.pt"], "no prunable"),
        (["IN", "-o", "out.onnx"], "out.onnx has the suffix .onnx, but an output must end in .pt, .pth"),
        (["IN", "-o", "no/out.pt"], "no/out.pt cannot be written: the folder "),
        (["IN", "-o", "cut.pt/out.pt"], "cut.pt is not a folder; choose another"),
        (["IN", "-o", "out.pt", "--masks", "no/masks"], "no/masks cannot be written"),
        (["IN", "-o", "out.pt", "--masks", "out.pt"], "--masks is out.pt, which is IN or OUT"),
        (["IN", "-o", "out.pt", "--sparsity", "1.2"], "sparsity is 1.2, but must be at least 0 and below 1"),
        (["IN", "-o", "out.pt", "--sparsity", "90"], 'for 90 % give 0.9 or "90%"'),
        (["IN", "-o", "out.pt", "--sparsity", "much"], "sparsity is 'much', but must be a number"),
        (["IN", "-o", "out.pt", "--min-kept", "many"], "min_kept is 'many', but must be a whole number"),
        (["IN", "-o", "out.pt", "--min-kept", "200"], "the minimum of 200 in each of 2 tensors needs 280"),
        (["IN", "-o", "out.pt", "--scope", "conw"], "conv"),
        (
            ["IN", "-o", "out.pt", "--allocation", "best"],
            "allocation is 'best', but must be one of erk, exact,",
        ),
        (
            ["IN", "-o", "out.pt", "--model", "resnet20"],
            "dense.pth.tar does not fit resnet20: tensors 97 missing",
        ),
        (["IN", "-o", "out.pt", "--input", "3x32x32"], "--input is 3x32x32, but no network is known"),
        (
            ["IN", "-o", "out.pt", "--model", "resnet20", "--input", "3x"],
            "--input is 3x, but must be sizes such as 3x224x224",
        ),
        (
            ["IN", "-o", "out.pt", "--model", "resnet20", "--input", "3x32x32"],
            "dense.pth.tar does not fit resnet20: tensors 97 missing (conv1.weight, bn1.weight, bn1.bias, ...), "
            "4 unexpected (conv.weight, bn.weight, fc.weight, ...); name the network it belongs to",
        ),
        (["IN", "-o", "out.pt", "--model", "resnet21", "--input", "3x32x32"], "resnet20"),
    ],
)
def test_bad_requests_write_nothing(dense: str, arguments: list[str], message: str) -> None:
    Path("cut.pt").write_bytes(Path(dense).read_bytes()[:1000])
    torch.save({"fc.weight": torch.tensor([[1.0, float("nan")]])}, "nan.pt")
    torch.save({"fc.bias": torch.ones(2)}, "bias.pt")
    before = sorted(os.listdir())
    command = [dense if argument == "IN" else argument for argument in arguments]
    sparsity = [] if "--sparsity" in arguments else ["--sparsity", "0.5"]
    assert message in error("prune", *command, *sparsity)
    assert sorted(os.listdir()) == before


def test_layers_that_are_pruned_away_are_told_on_stderr(tmp_path: Path) -> None:
    state = weights() | {"middle.weight": torch.full((4, 5), 1e-3)}
    state = {name: state[name] for name in ("conv.weight", "middle.weight", "fc.weight")}
    torch.save(state, "thin.pt")
    result = gpmt("prune", "thin.pt", "-o", "out.pt", "--sparsity", "0.5")
    assert result.stderr == (
        "warning: sparsity 0.5 leaves no weight in 1 of 3 tensors (middle.weight); a min_kept of 1 would prevent it\n"
    )
    assert gpmt("prune", "thin.pt", "-o", "good.pt", "--sparsity", "0.5", "--min-kept", "1").stderr == ""
