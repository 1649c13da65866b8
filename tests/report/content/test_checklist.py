from dataclasses import replace
from pathlib import Path

from tests.report import examples
from tests.training.compare.comparisons import results_of, small_comparison

from gpmt.report.content.checklist import Item, checklist
from gpmt.report.content.comparison_folder import comparison_grid
from gpmt.report.content.report import Report
from gpmt.training.compare.outcome import outcome


def items(*subjects, grids=()) -> dict[str, Item]:
    return {item.text: item for item in checklist(Report("a report", subjects, grids))}


def compared(comparison, **changes) -> dict[str, Item]:
    document = outcome(comparison, results_of(comparison, lambda _: 0.9, **changes))
    return items(grids=[comparison_grid(document, {}, Path())])


def lacking(found: dict[str, Item]) -> dict[str, str]:
    return {text: item.note for text, item in found.items() if not item.present}


def test_a_complete_comparison_lacks_nothing():
    full = small_comparison(methods=None, seeds=[0, 1, 2], sparsities=["0.5", "0.6", "0.7", "0.8", "0.9"])
    assert lacking(compared(full)) == {}


def test_what_is_missing_is_said_with_what_adds_it():
    small = small_comparison(methods=["gradual", "random", "erk"])
    changes = {"to_do": {"gradual sparsity=0.9 seed=0"}, "failed": {"ERK sparsity=0.9 seed=1": "killed"}}
    assert lacking(compared(small, **changes)) == {
        "all runs are finished": "20 of 22, 1 failed; its command with --resume goes on",
        "at least 3 seeds": "1; gpmt sweep RECIPE seed=0,1,2 or gpmt compare RECIPE --seeds 0,1,2 adds more",
        "at least 5 sparsities": "2; gpmt compare RECIPE --sparsity 0.5,0.8,0.9,0.95,0.98 adds more",
        "baselines at the same budget: uniform, ERK, LAMP, random": (
            "uniform, LAMP missing; gpmt compare RECIPE --methods uniform,LAMP adds them"
        ),
    }
    only = compared(small_comparison(methods=["gradual"]))["accuracy before and after fine-tuning"]
    assert (only.present, only.note) == (False, "no method prunes a trained network")


def test_before_the_first_run_nothing_is_measured():
    small = small_comparison()
    found = compared(small, to_do=[point.title for point in small.grid.points])
    assert [text for text, item in found.items() if item.present] == [
        "the last epoch, not the best one on the test data",
        "the total budget in epochs, the same for all",
    ]


def test_a_run_has_all_but_the_experiment():
    assert set(lacking(items(examples.run()))) == {
        "at least 3 seeds",
        "at least 5 sparsities",
        "baselines at the same budget: uniform, ERK, LAMP, random",
    }


def test_runs_beside_one_another_are_an_experiment():
    runs = [
        replace(examples.run(), title=f"{seed} {asked}", seed=seed, asked=asked, allocation=allocation)
        for seed in (0, 1, 2)
        for asked, allocation in zip(
            ("50 %", "80 %", "90 %", "95 %", "98 %"),
            ("exact", "uniform", "erk", "lamp", "random"),
            strict=True,
        )
    ]
    found = [replace(run, recipe={**run.recipe, "seed": run.seed, "asked": run.asked}) for run in runs]
    assert lacking(items(*found)) == {}
    found[0] = replace(found[0], epochs={"dense": 1})
    [(text, note)] = lacking(items(*found)).items()
    assert text == "the total budget in epochs, the same for all"
    assert note == "the runs differ in it; gpmt compare RECIPE gives all the same"


def test_a_plan_lacks_what_is_trained():
    found = lacking(items(examples.plan()))
    assert found["accuracy before and after fine-tuning"].startswith("nothing was trained; gpmt run RECIPE")
    assert found["the last epoch, not the best one on the test data"] == found["times as measured"]
    assert found["the number of weights that are not zero"].startswith("a plan knows no weights outside")
    assert found["multiply-adds by a stated rule, dense and sparse"].startswith(
        "they need the network; gpmt inspect"
    )
    assert "the layers of each network" not in found


def test_of_several_the_ones_that_lack_it_are_named():
    found = items(examples.run(), examples.unfinished_run(), replace(examples.plan(), title="<plan>"))
    assert found["all runs are finished"].note == (
        "MobileNet-like network on digits: not yet; gpmt run with --resume goes on"
    )
    assert "<plan>: they need the network" in found["multiply-adds by a stated rule, dense and sparse"].note


def test_an_empty_report_has_nothing():
    assert not any(item.present for item in items().values())
