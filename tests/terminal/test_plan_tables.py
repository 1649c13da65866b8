"""Plans on a terminal of 80 columns, with blocks and groups."""

import io
import re

import pytest
import torch
from rich.console import Console
from tests.planning.plans import divided_plan, weights

import gpmt
from gpmt.terminal.density_bars import SCALE
from gpmt.terminal.plan_tables import group_table, print_plan, print_what_if
from gpmt.terminal.tables import count_table
from gpmt.verification import verify

BARS = re.compile(rf"log, │ floor|log scale|{re.escape(SCALE)}|[×█▏▎▍▌▋▊▉│]+(?=  |\s*$)|(?<=█) +│")


def printed(draw, width: int = 80) -> list[str]:
    out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    draw(out)
    lines = out.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    without = [BARS.sub("", line).strip() for line in lines if not line.startswith("density by depth")]
    return [line for line in without if line]


def test_blocks_are_folded_into_the_line_of_their_tensor():
    state = weights()
    state["attn.qkv.weight"][:2] *= 1e-3
    plan = divided_plan(state, sparsity=0.85)
    lines = printed(lambda out: print_plan(plan, out=out), 120)
    assert lines[0].split() == [
        "tensor", "shape", "weights", "kept", "density", "blocks", "least", "median", "minimum",
    ]  # fmt: skip
    qkv = plan.tensors[0]
    densities = sorted(block.density for block in qkv.blocks)
    binding = sum(block.binds for block in qkv.blocks)
    assert binding == 1
    cells = [f"{qkv.kept}", f"{qkv.density:.3%}", "3", f"{densities[0]:.3%}", f"{densities[1]:.3%}"]
    assert lines[2].split() == ["attn.qkv.weight", "6×10", "60", *cells, "*", f"{binding}", "of", "3"]
    fc = plan.tensors[1]
    assert lines[3].split() == ["fc.weight", "5×8", "40", f"{fc.kept}", f"{fc.density:.3%}"]
    assert lines[4].split() == ["total", "100", "15", "15.000%", f"{binding}", "bind"]
    text = str(plan).splitlines()
    assert text[0].split()[-3:] == ["blocks", "least", "median"]
    assert text[1].split()[-3:] == cells[2:]


def test_blocks_are_lines_where_that_is_asked_for():
    plan = divided_plan()
    lines = printed(lambda out: print_plan(plan, blocks=True, out=out))
    assert lines[0].split()[0] == "block"
    for line, block in zip(lines[2:], plan.blocks, strict=False):
        mark = ["*", "binds"] if block.binds else []
        shape = "×".join(map(str, block.shape))
        counts = [f"{block.numel}", f"{block.kept}", f"{block.density:.3%}"]
        assert line.split() == [block.name, shape, *counts, *mark]


def test_groups_have_a_table_of_their_own():
    plan = divided_plan(sparsity={"fc": 0.5, "*": 0.8})
    lines = printed(lambda out: out.print(group_table(plan, out=out)))
    assert [line.split()[:5] for line in (lines[2], lines[3], lines[-1])] == [
        ["*", "80.0000%", "3", "60", "12"],
        ["fc", "50.0000%", "1", "40", "20"],
        ["total", "4", "100", "32"],
    ]
    assert f"{plan.groups[0].threshold:.6g}" in lines[2]
    text = printed(lambda out: print_plan(plan, out=out))
    assert any(line.startswith("group") for line in text)
    assert "68 of 100 weights pruned (68.0000%); minimum 2 a block" in " ".join(text)


def test_what_lies_outside_is_told_with_how_to_change_it():
    state = {"embed_tokens.weight": torch.randn(90, 10), "fc.weight": torch.randn(10, 10)}
    plan = gpmt.plan(state, sparsity=0.9)
    lines = printed(lambda out: print_plan(plan, out=out), 120)
    assert lines[-5:] == [
        f"90 of 100 weights pruned (90.0000%), 9.0000% of the whole network, global threshold {plan.threshold:.6g}",
        "scope: 100 of 1.00 k weights (10 %)",
        "outside: embed_tokens.weight 900 (embedding)",
        "to prune such a tensor too, name it, as in --scope '*' --scope embed_tokens.weight",
        "scope judged by name and shape, since no network is known",
    ]
    assert (plan.network_sparsity, plan.to_dict()["network_sparsity"]) == (0.09, 0.09)
    assert "outside: embed_tokens.weight 900 (embedding)" in str(plan)


def test_of_an_ordinary_network_nothing_more_is_said():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3))
    plan = gpmt.plan(network, sparsity=0.5)
    lines = printed(lambda out: print_plan(plan, out=out), 120)
    assert lines[-2:] == [plan.summary(), "scope judged by the layers of Sequential"]
    assert "network" not in plan.summary()


@pytest.mark.parametrize("blocks", [False, True])
def test_blocks_of_a_file_are_folded_too(blocks):
    attention = torch.nn.MultiheadAttention(8, 2)
    with torch.no_grad():
        attention.in_proj_weight[:8, 4:] = 0
    rows = verify(attention).tensors
    lines = printed(lambda out: out.print(count_table(rows, blocks=blocks, out=out)), 120)
    if blocks:
        assert lines[2].split() == ["in_proj_weight.q", "64", "32", "50.000%"]
    else:
        cells = ["24×8", "192", "160", "83.333%", "24/24", "3", "50.000%", "100.000%"]
        assert sorted(lines[2].split()) == sorted(["in_proj_weight", *cells])


@pytest.mark.parametrize("width", [80, 120])
def test_sparsities_that_are_compared_fit_a_terminal(width):
    name = "vision_model.encoder.layers.11.self_attn.out_proj.weight"
    state = {"embed_tokens.weight": torch.randn(400, 100), name: torch.full((100, 100), 1e-3)}
    state["head.fc.weight"] = torch.randn(500, 100)
    macs = {name: 10_000, "head.fc.weight": 50_000}
    table = gpmt.what_if(state, ["10%", "50%", "99.5%"], min_kept={"head*": 10}, macs=macs)
    lines = printed(lambda out: print_what_if(table, out=out), width)
    text = "".join(line.split("  ")[-1].strip() for line in lines)
    assert name in text
    found = [line.split() for line in lines if line.split()[0] in ("10%", "50%", "99.5%")]
    assert [cells[:1] for cells in found] == [["10%"], ["50%"], ["99.5%"]]
    row = table.rows[1]
    assert found[1][1:7] == [
        "30,000", f"{row.plan.network_sparsity:.2%}", f"{row.macs / 60_000:.2%}", "0", "100", "1",
    ]  # fmt: skip
    assert found[2][5] == "–"
    assert (
        "of 60,000 weights in 2 tensors; min_kept is the smallest with which each keeps 1% of its own"
        in " ".join(lines)
    )
