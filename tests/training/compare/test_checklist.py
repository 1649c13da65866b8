from tests.training.compare.comparisons import results_of, small_comparison

from gpmt.training.compare.checklist import Item, checklist
from gpmt.training.compare.outcome import outcome


def items(comparison, **changes) -> dict[str, Item]:
    found = checklist(outcome(comparison, results_of(comparison, lambda _: 0.9, **changes)))
    return {item.text: item for item in found}


def test_a_complete_comparison_lacks_nothing():
    full = small_comparison(methods=None, seeds=[0, 1, 2], sparsities=["0.5", "0.6", "0.7", "0.8", "0.9"])
    assert [item.text for item in items(full).values() if not item.present] == []


def test_what_is_missing_is_said():
    small = small_comparison(methods=["gradual", "random", "erk"])
    found = items(small, to_do={"gradual sparsity=0.9 seed=0"}, failed={"ERK sparsity=0.9 seed=1": "killed"})
    lacking = {text: item.note for text, item in found.items() if not item.present}
    assert lacking == {
        "all runs are finished": "20 of 22, 1 failed",
        "at least 3 seeds": "1",
        "at least 5 sparsities": "2",
        "baselines at the same budget: uniform, ERK, LAMP, random": "uniform, LAMP missing",
    }
    only = items(small_comparison(methods=["gradual"]))
    assert not only["accuracy before and after fine-tuning"].present


def test_before_the_first_run_nothing_is_measured():
    small = small_comparison()
    found = items(small, to_do=[point.title for point in small.grid.points])
    present = [text for text, item in found.items() if item.present]
    assert present == [
        "the last epoch, not the best one on the test data",
        "the total budget in epochs, the same for all",
    ]
