import io
import re

import pytest
import torch
from rich.console import Console

import gpmt
from gpmt.core.compare import compare
from gpmt.terminal.density_bars import curve
from gpmt.terminal.tables import (
    check_lines,
    console,
    count_table,
    density_curve,
    difference_table,
    plan_table,
)
from gpmt.verification import verify


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {f"backbone.layer{i}.0.conv1.weight": torch.randn(16 * i, 8 * i, 3, 3) for i in range(1, 5)}


def render(width: int, *, terminal: bool = True, macs: bool = False) -> list[str]:
    weights = state()
    out = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    plan = gpmt.plan(weights, sparsity=0.9, min_kept=200)
    counts = {name: tensor.numel() * 100 for name, tensor in weights.items()} if macs else None
    out.print(plan_table(plan, macs=counts, out=out))
    return out.file.getvalue().splitlines()


def test_counts_and_totals_are_in_the_table() -> None:
    lines = [" ".join(line.split()) for line in render(120, macs=True)]
    plan = gpmt.plan(state(), sparsity=0.9, min_kept=200)
    first = plan.tensors[0]
    kept = f"{first.kept:,} {first.density:.3%} * binds {first.kept * 100:,}"
    shapes = "backbone.layer1.0.conv1.weight 16×8×3×3 1,152"
    assert f"{shapes} {kept}" in [re.sub("[█▏▎▍▌▋▊▉│]+ ?", "", line).strip() for line in lines]
    assert f"total 34,560 {plan.kept:,} 10.000% 1 bind {plan.kept * 100:,}" in lines
    assert "MACs without the zeros; with them 3,456,000, so 10.000% are left" in lines


def names_in(lines: list[str]) -> str:
    """Return what the first column holds, its lines joined."""
    return "".join(line.split("  ")[0].strip() for line in (line.removeprefix(" ") for line in lines))


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_terminals_show_whole_names_and_what_is_kept(width: int) -> None:
    lines = render(width, macs=True)
    assert max(map(len, lines)) <= width
    text = names_in(lines)
    plan = gpmt.plan(state(), sparsity=0.9, min_kept=200)
    for row in plan.tensors:
        assert row.name.removesuffix(".weight") in text
        assert any(f"{row.kept:,}" in line and f"{row.density:.3%}" in line for line in lines)
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize("width", [80, 120])
def test_differences_fit_a_terminal(width: int) -> None:
    name = "vision_model.encoder.layers.{}.self_attn.out_proj.weight"
    a = {name.format(i): torch.zeros(768, 768) for i in (1, 11)}
    out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    out.print(difference_table(compare(a, {key: tensor + 1 for key, tensor in a.items()}).tensors, out=out))
    printed = out.file.getvalue()
    assert max(map(len, printed.splitlines())) <= width
    for i in (1, 11):
        assert name.format(i).removesuffix(".weight") in names_in(printed.splitlines())
    assert printed.count("589,824") >= 4


def test_outputs_that_are_not_terminals_get_whole_lines_without_colour() -> None:
    file = io.StringIO()
    out = console(file=file)
    weights = {"layer." * 60 + "weight": torch.ones(30, 10)}
    result = verify(weights)
    out.print(count_table(result.tensors, out=out))
    out.print(check_lines(result))
    assert "layer." * 60 + "weight" in file.getvalue()
    assert "\x1b" not in file.getvalue()


def test_names_in_brackets_are_not_markup() -> None:
    file = io.StringIO()
    out = console(file=file)
    out.print(count_table(verify({"[bold]x.weight": torch.ones(2, 2)}).tensors, out=out))
    assert "[bold]x.weight" in file.getvalue()


def test_bars_and_a_curve_are_for_terminals_with_room():
    plan = gpmt.plan(state(), sparsity=0.9, min_kept=200)
    for width, terminal, bars in ((120, True, True), (60, True, False), (200, False, False)):
        lines = render(width, terminal=terminal)
        assert any("│ floor" in line for line in lines) is bars
        assert sum("│" in line for line in lines) == (
            5 if bars else 0
        )  # its head, and a floor for each tensor
    kept, numel = [row.kept for row in plan.tensors], [row.numel for row in plan.tensors]
    out = Console(file=io.StringIO(), width=60, force_terminal=True)
    drawn = curve([part / whole for part, whole in zip(kept, numel, strict=True)], 16)
    assert density_curve(kept, numel, out=out) == f"density by depth (log scale, .01% to 100%): {drawn}"
    assert density_curve([0, *kept], [10, *numel], out=out).split(": ")[1].startswith("×")
    assert density_curve(kept[:3], numel[:3], out=out) is None
    assert density_curve(kept, numel, out=Console(file=io.StringIO())) is None


def test_floors_of_a_verification_are_in_its_table():
    weights = state()
    gpmt.prune_(weights, sparsity=0.9, min_kept=200)
    result = verify(weights, sparsity=0.9, min_kept=200)
    assert result.floors == dict.fromkeys(weights, 200)
    assert verify(weights).floors == {}
    assert "floors" not in result.to_dict()
    out = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    out.print(count_table(result.tensors, floors=result.floors, out=out))
    assert out.file.getvalue().count("│") == 5


def test_bars_in_ascii():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    out = Console(file=file, width=120, force_terminal=True, color_system=None)
    out.print(plan_table(gpmt.plan(state(), sparsity=0.9, min_kept=200), out=out))
    file.flush()
    printed = file.buffer.getvalue().decode("ascii")
    assert "log, | floor" in printed
    assert "####" in printed
