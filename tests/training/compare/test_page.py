from tests.training.compare.comparisons import results_of, small_comparison

from gpmt.runs.log import NOT_FINITE
from gpmt.training.compare.outcome import outcome
from gpmt.training.compare.page import page

ABOUT = {"commands": ["gpmt compare digits", "gpmt compare digits --resume"], "versions": {"torch": "2.10"}}


def test_the_page_holds_tables_commands_and_the_checklist():
    comparison = small_comparison()
    results = results_of(
        comparison,
        lambda point: 0.95 if point.variant == "GP+MT" else 0.9,
        infeasible={f"gradual+MT sparsity=0.95 seed={seed}": "no room" for seed in (0, 1)},
        failed={"GP sparsity=0.95 seed=0": f"{NOT_FINITE} inf"},
        dead={"GP sparsity=0.9 seed=0"},
    )
    lines = page(outcome(comparison, results), ABOUT).splitlines()
    assert lines[0] == "# Comparison: MobileNet-like network on digits"
    assert "gpmt compare digits --resume" in lines
    assert "| method | floor | 90 % | 95 % | epochs | time |" in lines
    assert "| GP | – | 90.00 ± 0.00† | 90.00‡ | 4 + 2 | 3.5 s |" in lines
    assert "| GP | 0.25% | **95.00 ± 0.00** | **95.00 ± 0.00** | 4 + 2 | 3.5 s |" in lines
    assert "| gradual | 0.25% | 90.00 ± 0.00 | infeasible | 6 | 3.5 s |" in lines
    assert "| dense | – | 90.00 ± 0.00 | 90.00 ± 0.00 | 6 | 3.5 s |" in lines
    assert "| GP | – | 90 % | 90.0000 % | 100 | 0 | 1 | 15.00 % | yes |" in lines
    assert "* infeasible: gradual+MT at 95 %: no room" in lines
    assert f"* GP sparsity=0.95 seed=0: {NOT_FINITE} inf" in lines
    assert any(line.startswith("* [ ] at least 3 seeds: 1; ") for line in lines)
    assert "* [x] the total budget in epochs, the same for all" in lines
    assert [line for line in lines if line.startswith("†")]
    before = lines[lines.index("## Right after pruning, before fine-tuning") :]
    assert "| GP | – | 10.00 ± 0.00 | 10.00 |" in before
    assert not any(line.startswith("| gradual | – |") for line in before[:12])


def test_a_page_before_the_first_run():
    comparison = small_comparison(seeds=[0])
    nothing = results_of(comparison, lambda _: 0.9, to_do=[p.title for p in comparison.grid.points])
    text = page(outcome(comparison, nothing), ABOUT)
    assert "| GP | – | – | – | 4 + 2 | – |" in text
    assert "Right after pruning" not in text
    assert "one seed" in text
