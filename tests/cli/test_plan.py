"""Plans made, written, edited and applied on the command line."""

import json
from pathlib import Path

import pytest
import torch
from tests.cli.commands import PRUNED, N, error, gpmt, weights

from gpmt.formats.checkpoint import load_checkpoint
from gpmt.planning.plan import Plan


@pytest.fixture
def plan_file(dense: str) -> Path:
    gpmt("plan", dense, "--sparsity", "0.9", "--min-kept", 5, "-o", "plan.json", "-q")
    return Path("plan.json")


def test_a_plan_is_shown_and_written_and_nothing_is_pruned(dense: str):
    before = Path(dense).read_bytes()
    printed = gpmt("plan", dense, "--sparsity", "0.9", "--min-kept", 5, "-o", "plan.json").stdout
    assert f"{PRUNED} of {N} weights pruned (89.8649%)" in printed
    assert printed.endswith("wrote plan.json; nothing is pruned\n")
    assert Path(dense).read_bytes() == before
    assert Plan.load("plan.json").pruned == PRUNED
    document = json.loads(gpmt("plan", dense, "--sparsity", "0.9", "--json").stdout)
    assert (document["input"], document["output"], document["pruned"]) == (dense, None, PRUNED)
    assert sorted(path.name for path in Path().iterdir()) == [dense, "plan.json"]


def test_a_plan_prunes_as_its_request_does(dense: str, plan_file: Path):
    gpmt("prune", dense, "-o", "a.pt", "--plan", plan_file)
    gpmt("prune", dense, "-o", "b.pt", "--sparsity", "0.9", "--min-kept", 5)
    gpmt("diff", "a.pt", "b.pt")


def test_an_edited_plan_prunes_exactly_as_it_says(dense: str, plan_file: Path):
    document = json.loads(plan_file.read_text())
    [conv, fc] = (tensor["blocks"][0] for tensor in document["tensors"])
    conv["kept"], fc["kept"] = conv["kept"] + 3, fc["kept"] - 3
    plan_file.write_text(json.dumps(document))
    printed = gpmt("prune", dense, "-o", "out.pt", "--plan", plan_file).stdout
    assert "note:" not in printed
    state = load_checkpoint("out.pt").state_dict
    assert [int(state[f"{name}.weight"].count_nonzero()) for name in ("conv", "fc")] == [
        conv["kept"],
        fc["kept"],
    ]
    fc["kept"] -= 1
    plan_file.write_text(json.dumps(document))
    assert error("prune", dense, "-o", "no.pt", "--plan", plan_file) == (
        "plan.json: the blocks of group 0 keep 29 weights together, but its total says 30; correct the one or the "
        "other"
    )
    assert not Path("no.pt").exists()


def test_other_weights_are_pruned_to_the_same_counts_with_a_note(plan_file: Path):
    torch.save({name: tensor * torch.rand_like(tensor) for name, tensor in weights().items()}, "other.pt")
    printed = gpmt("prune", "other.pt", "-o", "out.pt", "--plan", plan_file).stdout
    assert "note: these are other weights than the plan was made of (in conv.weight" in printed
    gpmt("verify", "out.pt", "--sparsity", "0.9", "--min-kept", 5)


def test_groups_minimums_and_blocks_by_pattern(dense: str):
    floors = ("--min-kept", "fc*=10% of tensor", "--split", "fc.weight=a,b")
    options = ("--sparsity", "conv=0.5", "--sparsity", "*=0.9", *floors)
    document = json.loads(gpmt("plan", dense, *options, "--json").stdout)
    assert [(group["group"], group["kept"]) for group in document["groups"]] == [("conv", 108), ("*", 8)]
    assert [block["floor"] for block in document["tensors"][1]["blocks"]] == [4, 4]
    printed = gpmt("plan", dense, *options, "--blocks").stdout
    assert all(f"fc.weight.{label}" in printed for label in "ab")
    gpmt("prune", dense, *options, "-o", "out.pt", "-q")
    verified = gpmt("verify", "out.pt", *floors, "--blocks").stdout
    assert all(f"fc.weight.{label}" in verified for label in "ab")
    document = json.loads(gpmt("plan", dense, "-s", "0.5", "--within", "tensor", "--json").stdout)
    assert [row["kept"] for row in document["tensors"]] == [108, 40]


def test_a_dry_run_writes_nothing(dense: str, plan_file: Path):
    before = sorted(Path().iterdir())
    command = ("prune", dense, "-o", "out.pt", "--masks", "masks.safetensors", "--dry-run")
    for request in (("--sparsity", "0.9"), ("--plan", plan_file)):
        printed = gpmt(*command, *request).stdout
        assert f"{PRUNED} of {N} weights pruned" in printed
        assert printed.endswith("would write out.pt and masks.safetensors; nothing is written\n")
        document = json.loads(gpmt(*command, *request, "--json").stdout)
        assert document["would_write"] == ["out.pt", "masks.safetensors"]
        assert gpmt(*command, *request, "-q").stdout == ""
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "IN"], "give --sparsity, such as 0.9, --pattern or --max-macs, or --what-if"),
        (["plan", "IN", "--max-macs", "10%"], "--max-macs needs the MACs of the network, which is not known"),
        (["plan", "IN", "-s", "0.9", "-o", "IN"], "IN exists; give another name, or --force to replace it"),
        (["plan", "IN", "-s", "0.9", "-o", "IN", "-f"], "IN is named twice, or is the input; give each"),
        (["plan", "IN", "-s", "0.9", "-o", "no/plan.json"], "no/plan.json cannot be written: the folder"),
        (["plan", "IN", "-s", "0.9", "--within", "row of"], "within is 'row of', but must be one of network, tensor"),
        (["plan", "IN", "-s", "0.9", "--paths"], "--paths belongs to --what-if; of a pruned file, gpmt verify"),
        (["plan", "IN", "--what-if", "--paths"], "--paths needs the network, which is not known; name it with"),
        (["plan", "IN", "-s", "a=0.9"], "the pattern 'a' of sparsity matches nothing to prune; names here are"),
        (["plan", "IN", "-s", "conv=0.9"], 'no pattern of sparsity matches fc.weight; add "*" for the rest'),
        (["plan", "IN", "-s", "0.9", "--split", "fc.weight=3"], "blocks pattern 'fc.weight' does not fit fc.weight"),
        (["plan", "nosuch.pt", "-s", "0.9"], "nosuch.pt does not exist; check the path"),
        (["prune", "IN", "-o", "x.pt"], "give --sparsity, such as 0.9, --pattern or --max-macs, or --plan"),
        (["prune", "IN", "-o", "x.pt", "--plan", "plan.json", "-s", "0.9", "--split", "a=2", "--seed", "1"],
         "--plan says all that --sparsity, --split, --seed would; leave them out, or the plan"),
        (["prune", "IN", "-o", "x.pt", "--plan", "IN"], "IN is not valid JSON"),
        (["prune", "IN", "-o", "x.pt", "--plan", "nosuch.json"], "nosuch.json cannot be read: No such file or"),
        (["prune", "small.pt", "-o", "x.pt", "--plan", "plan.json"], "conv.weight has shape [2, 3, 3, 3], but [8, 3"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("plan_file")
def test_what_cannot_be_planned_is_one_sentence(dense: str, arguments: list[str], message: str):
    torch.save(weights() | {"conv.weight": torch.ones(2, 3, 3, 3)}, "small.pt")
    before = sorted(Path().iterdir())
    command = [dense if argument == "IN" else argument for argument in arguments]
    assert error(*command).startswith(message.replace("IN", dense))
    assert sorted(Path().iterdir()) == before


def test_several_sparsities_are_compared(dense: str):
    lines = gpmt("plan", dense, "--what-if", "--at-least", "10%").stdout.splitlines()
    assert [line.split()[0] for line in lines if line.strip()[:2].isdecimal()] == [
        "50%", "60%", "70%", "80%", "90%", "95%", "98%", "99%",
    ]  # fmt: skip
    assert "min_kept is the smallest with which each keeps 10% of its own" in " ".join(lines)
    document = json.loads(
        gpmt("plan", dense, "--what-if", "-s", "0.9", "-s", "80%", "--min-kept", 3, "--json").stdout
    )
    assert [row["sparsity"] for row in document["rows"]] == [0.8, 0.9]
    assert (document["weights"], document["min_kept"], document["at_least"]) == (N, 3, 0.01)
    assert gpmt("plan", dense, "--what-if", "-q").stdout == ""
    assert error("plan", dense, "--what-if", "-o", "x.json") == (
        "--what-if compares plans and writes none; leave out one of --what-if and -o"
    )
    assert error("plan", dense, "--what-if", "-s", "*=0.9").startswith(
        "--sparsity is '*=0.9', but --what-if compares"
    )
    assert error("plan", dense, "--what-if", "--at-least", "0").startswith(
        "at_least is 0, but must be a share"
    )


def test_a_known_network_tells_what_is_left_of_its_macs(lenet: str):
    command = ("plan", lenet, "--what-if", "--model", "lenet5-caffe", "--input", "1x28x28")
    printed = gpmt(*command).stdout
    document = json.loads(gpmt(*command, "--json").stdout)
    assert document["dense_macs"] == 2_293_000
    row = document["rows"][4]
    assert f"{row['macs'] / 2_293_000:.2%}" in printed
    assert "MACs with all weights: 2,293,000" in printed
    printed = gpmt(*command, "-s", "0.9", "--paths").stdout
    assert "the effective sparsity counts kept weights on no path from input to output as pruned" in printed


def test_rows_patterns_and_budgets_of_macs(dense: str, lenet: str):
    document = json.loads(gpmt("plan", dense, "--pattern", "2:4", "--exclude", "conv", "--json").stdout)
    assert (document["pattern"], document["kept"]) == ("2:4", 40)
    document = json.loads(gpmt("plan", dense, "-s", "0.5", "--within", "row", "--json").stdout)
    assert (document["within"], document["kept"]) == ("row", 8 * 14 + 10 * 4)
    options = ("--max-macs", "10%", "--model", "lenet5-caffe", "--input", "1x28x28", "-f")
    gpmt("plan", lenet, *options, "-o", "plan.json")
    gpmt("prune", lenet, *options, "-o", "a.pt")
    gpmt("prune", lenet, "--plan", "plan.json", "-o", "b.pt")
    gpmt("diff", "a.pt", "b.pt")
