import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from torch import Tensor
from typer.testing import CliRunner

from gpmt.cli import app
from gpmt.core.masks import Masks
from gpmt.formats.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def gpmt(*arguments: Any, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def error(*arguments: Any) -> str:
    """Run a command that must fail, and return its one sentence."""
    result = gpmt(*arguments, code=2)
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(8, 3, 3, 3, generator=generator),
        "bn.weight": torch.ones(8),
        "fc.weight": torch.randn(10, 8, generator=generator),
        "fc.bias": torch.zeros(10),
    }


N, PRUNED = 296, 266  # prunable weights, and nine tenths of them rounded down


@pytest.fixture
def dense(tmp_path: Path) -> str:
    prefixed = {f"module.{name}": tensor for name, tensor in weights().items()}
    torch.save({"epoch": 3, "state_dict": prefixed, "best_acc1": 91.5}, tmp_path / "dense.pth.tar")
    return "dense.pth.tar"


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


def test_pruning_less_than_is_zero_already_says_so(dense: str) -> None:
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
        (["IN", "-o", "out.pt", "--allocation", "best"], "allocation is 'best', but must be one of exact,"),
        (
            ["IN", "-o", "out.pt", "--model", "resnet20"],
            "--model is resnet20, but the shape of its input is not known",
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


def test_usage_errors(dense: str) -> None:
    for arguments in (["prune", dense], ["prune"], ["frobnicate"], ["verify", dense, "--tolerance", "x"]):
        result = gpmt(*arguments, code=2)
        assert "Traceback" not in result.output
    assert gpmt("--version").stdout.strip() == "0.1.0"
    assert "Commands" in CliRunner().invoke(app, []).output


@pytest.mark.parametrize("command", ["prune", "inspect", "verify", "diff"])
def test_help_has_examples(command: str) -> None:
    printed = gpmt(command, "--help").stdout
    assert f"gpmt {command} " in printed.split("Examples")[1]
    assert "--json" in printed


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


def test_inspect_masks(dense: str) -> None:
    gpmt("prune", dense, "-o", "out.pt", "--sparsity", "0.5", "--masks", "masks.safetensors")
    assert (
        f"masks of 2 tensors; {N // 2} of {N} weights pruned (50.0000%)"
        in gpmt("inspect", "masks.safetensors").stdout
    )
    document = json.loads(gpmt("inspect", "masks.safetensors", "--json").stdout)
    assert (document["format"], document["pruned"]) == ("gpmt-masks", N // 2)
    assert document["digest"] == Masks.load("masks.safetensors").digest()


@pytest.fixture
def resnet20() -> str:
    from gpmt.training.models import build

    model = build("resnet20", num_classes=7, input_shape=(3, 32, 32))
    torch.save({"state_dict": model.state_dict()}, "resnet20.pt")
    return "resnet20.pt"


def test_macs_of_a_network_by_name(resnet20: str) -> None:
    network = ("--model", "resnet20", "--input", "3x32x32")
    document = json.loads(gpmt("inspect", resnet20, *network, "--json").stdout)
    assert document["dense_macs"]["conv1.weight"] == 32 * 32 * 16 * 27
    assert document["dense_macs"]["linear.weight"] == 64 * 7
    assert sum(document["dense_macs"].values()) == 40_550_400 + 64 * 7
    printed = gpmt(
        "prune", resnet20, "-o", "out.pt", "--sparsity", "0.9", "--scope", "type:Linear", *network
    ).stdout
    assert "linear.weight" in printed
    assert "conv1.weight" not in printed
    assert "MACs" in printed


def test_a_file_of_gpmt_run_names_its_network(resnet20: str) -> None:
    held = torch.load(resnet20)
    held["gpmt"] = {"model": {"name": "resnet20", "num_classes": 7}, "input_shape": [3, 32, 32]}
    torch.save(held, "run.pt")
    gpmt("prune", "run.pt", "-o", "pruned.pt", "--sparsity", "0.9")
    document = json.loads(gpmt("inspect", "pruned.pt", "--json").stdout)
    assert document["dense_macs"]["linear.weight"] == 64 * 7
    assert {row["kind"] for row in document["tensors"]} == {"Conv2d", "Linear"}
    assert "MACs without the zeros" in gpmt("inspect", "pruned.pt").stdout


def test_a_missing_extra_is_named(dense: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, module, None)
    message = error("inspect", dense, "--model", "torchvision:resnet18", "--input", "3x224x224")
    assert message == "torchvision is not installed; pip install 'gpmt[train]' brings it"


def test_a_network_with_another_shape_of_layers_is_named(resnet20: str) -> None:
    state = torch.load(resnet20)["state_dict"]
    state["layer1.0.conv1.weight"] = torch.ones(16, 16, 5, 5)
    torch.save(state, "odd.pt")
    assert (
        "odd.pt does not fit resnet20: tensors 1 of another shape "
        "(layer1.0.conv1.weight is [16, 16, 5, 5], not [16, 16, 3, 3]); name the network it belongs to"
    ) in error("inspect", "odd.pt", "--model", "resnet20", "--input", "3x32x32")


def test_verify_exit_codes(dense: str) -> None:
    gpmt("prune", dense, "-o", "out.pt", "--sparsity", "0.9", "--min-kept", 5)
    printed = gpmt("verify", "out.pt", "--sparsity", "0.9", "--min-kept", 5).stdout
    assert f"total: {PRUNED} of {N} weights are pruned, as asked for" in printed
    assert f"ok: {PRUNED} of {N} weights are zero" in printed
    printed = gpmt("verify", "out.pt", "--sparsity", "0.8", code=1).stdout
    assert f"failed  total: {PRUNED} of {N} weights are pruned, 30 too many for the 236 asked for" in printed
    assert f"FAILED: {PRUNED} of {N} weights are zero" in printed
    gpmt("verify", "out.pt", "--sparsity", "0.8", "--tolerance", 30)
    gpmt("verify", "out.pt", "--min-kept", 100, code=1)
    assert error("verify", "out.pt", "--sparsity", "2").startswith("sparsity is 2, but")
    assert error("verify", "nope.pt") == "nope.pt does not exist; check the path"


def test_verify_with_masks_of_another_network(dense: str) -> None:
    Masks.from_dense({"other.weight": torch.ones(2, 2, dtype=torch.bool)}).save("other.safetensors")
    assert "other.weight is missing" in error("verify", dense, "--masks", "other.safetensors")
    assert f"{dense} is not a readable safetensors file" in error("verify", dense, "--masks", dense)


def test_verify_json(dense: str) -> None:
    document = json.loads(gpmt("verify", dense, "--sparsity", "0.5", "--json", code=1).stdout)
    assert document["ok"] is False
    assert document["file"] == dense
    assert [check["status"] for check in document["checks"]] == ["ok", "ok", "failed"]


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


def test_diff_of_masks(dense: str) -> None:
    for sparsity, name in (("0.5", "a"), ("0.75", "b")):
        gpmt("prune", dense, "-o", f"{name}.pt", "--sparsity", sparsity, "--masks", f"{name}.safetensors")
    printed = gpmt("diff", "a.safetensors", "b.safetensors", code=1).stdout
    assert "zeros: 0 only in a.safetensors, 74 only in b.safetensors, 148 in both" in printed


def script(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from gpmt.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


def test_the_script_reports_on_stderr_and_by_exit_code(dense: str) -> None:
    done = script("prune", dense, "-o", "out.pt", "--sparsity", "1.5")
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr
        == 'error: sparsity is 1.5, but must be at least 0 and below 1; for 1.5 % give 0.015 or "1.5%"\n'
    )
    assert not Path("out.pt").exists()


def test_a_closed_pipe_is_quiet(dense: str) -> None:
    command = f"{sys.executable} -c 'from gpmt.cli import main; main()' inspect {dense} --json | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.stderr) == ("{", "")


def test_no_space_left(dense: str) -> None:
    code = """
import resource, sys
from gpmt.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
main()
"""
    before = sorted(os.listdir())
    command = [sys.executable, "-B", "-c", code, "prune", dense, "-o", "out.pt", "--sparsity", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: out.pt cannot be written: no space left in ")
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_while_writing_leaves_nothing(dense: str, sent: signal.Signals, code: int) -> None:
    script_text = f"""
import os, signal, sys, torch
from gpmt.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
write = torch.save
def interrupted(obj, path):
    write(obj, path)
    os.kill(os.getpid(), {int(sent)})
    __import__("time").sleep(60)
torch.save = interrupted
main()
"""
    before = sorted(os.listdir())
    command = [sys.executable, "-c", script_text, "prune", dense, "-o", dense, "--force", "--sparsity", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if sent == signal.SIGINT:
        assert done.stderr == "interrupted; no file is half-written\n"
    assert sorted(os.listdir()) == before
    gpmt("verify", dense, "--sparsity", "0")
