"""Whole columns from the command line."""

import json
from pathlib import Path

import pytest
import torch
from tests.cli.commands import gpmt

from gpmt.formats.checkpoint import load_checkpoint


@pytest.fixture(autouse=True)
def _rnn(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"cell.W1": (9, 9), "cell.U1": (80, 80), "cell.bias_gate": (1, 80), "head.weight": (2, 80)}
    torch.save(
        {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}, tmp_path / "rnn.pt"
    )


COLUMNS = (
    "--granularity",
    "column",
    "--scope",
    "*.W1",
    "--scope",
    "*.U1",
    "--sparsity",
    "72/89",
    "--min-kept",
    8,
)


def test_prune_and_verify_columns() -> None:
    printed = gpmt("prune", "rnn.pt", "-o", "out.pt", "--masks", "masks.safetensors", *COLUMNS).stdout
    assert "columns" in printed
    assert "72 of 89 columns pruned (80.8989%)" in printed
    assert "note:" not in printed
    state = load_checkpoint("out.pt").state_dict
    assert int(state["cell.U1"].any(dim=0).sum()) + int(state["cell.W1"].any(dim=0).sum()) == 17
    assert state["head.weight"].all()
    checked = gpmt("verify", "out.pt", "--masks", "masks.safetensors", *COLUMNS).stdout
    assert "72 of 89 columns are pruned, as asked for" in checked
    assert "ok: 72 of 89 columns are zero (80.8989%)" in checked
    assert "columns" in checked.split("cell.W1")[0]
    gpmt("verify", "rnn.pt", *COLUMNS, code=1)


def test_as_json() -> None:
    document = json.loads(gpmt("prune", "rnn.pt", "-o", "out.pt", "--json", *COLUMNS).stdout)
    assert (document["granularity"], document["columns"], document["pruned"]) == ("column", 89, 72)
    document = json.loads(gpmt("verify", "out.pt", "--json", *COLUMNS).stdout)
    assert (document["ok"], document["granularity"], document["columns"]) == (True, "column", 89)


def test_columns_that_were_zero_before_are_counted_in_weights() -> None:
    gpmt("prune", "rnn.pt", "-o", "sparse.pt", *COLUMNS)
    command = ("prune", "sparse.pt", "-o", "again.pt", "--granularity", "column", "--scope", "*.U1")
    printed = " ".join(gpmt(*command, "--sparsity", 0.5).stdout.split())
    more = int((load_checkpoint("sparse.pt").state_dict["cell.U1"] == 0).sum()) - 40 * 80
    assert f"{more:,} more than asked for, because they were zero before" in printed


@pytest.mark.parametrize(
    "command", [("prune", "rnn.pt", "-o", "out.pt", "--sparsity", 0.5), ("verify", "rnn.pt")]
)
def test_an_unknown_granularity(command: tuple[str, ...]) -> None:
    result = gpmt(*command, "--granularity", "pixel", code=2)
    assert (
        result.stderr
        == "error: granularity is 'pixel', but must be one of weight, row, column, channel, 1x4\n"
    )


@pytest.mark.parametrize(
    ("granularity", "unit"), [("row", "rows"), ("channel", "channels"), ("1x4", "vectors")]
)
def test_prune_and_verify_other_units(granularity: str, unit: str) -> None:
    options = ("--granularity", granularity, "--sparsity", 0.5, "--min-kept", 1)
    assert f"{unit} pruned (50.0000%)" in gpmt("prune", "rnn.pt", "-o", "out.pt", *options).stdout
    assert f"{unit} are pruned, as asked for" in gpmt("verify", "out.pt", *options).stdout
    gpmt("verify", "rnn.pt", *options, code=1)
