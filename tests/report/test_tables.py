import io

import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import gpmt
from gpmt.report.tables import check_lines, console, count_table, plan_table, shorten
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
    assert f"backbone.layer1.0.conv1.weight 16×8×3×3 1,152 {kept}" in lines
    assert f"total 34,560 {plan.kept:,} 10.000% 1 bind {plan.kept * 100:,}" in lines
    assert "MACs without the zeros; with them 3,456,000, so 10.000% are left" in lines


def test_narrow_terminals_shorten_names_and_keep_numbers() -> None:
    wide, narrow = render(120, macs=True), render(60, macs=True)
    assert max(map(len, narrow)) <= 60
    assert [line.split()[0] for line in narrow[3:7]] == [f"backb…{i}.0.conv1" for i in range(1, 5)]
    assert not any("…" in line for line in wide)
    for number in ("1,152", "18,432", "34,560", "* binds"):
        assert any(number in line for line in narrow)


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


@given(st.text(max_size=30), st.integers(3, 40))
def test_shortened_names_fit(name: str, width: int) -> None:
    short = shorten(name, width)
    assert len(short) <= width
    assert (short == name) == (len(name) <= width) or "…" in name
    assert short[:1] == name[:1]
    assert short[-1:] == name[-1:]
