from dataclasses import replace

from tests.report import examples

from gpmt.report.content.subject import Epoch
from gpmt.report.page.curves import curves, events


def test_panels_phases_and_the_last_epochs():
    view = curves(examples.run()).views[0]
    assert {trace["yaxis"] for trace in view.traces} == {"y", "y2", "y3"}
    assert "Dense training ends epoch 5 with a top-1 of 90\xa0%." in view.finding
    assert "Fine-tuning ends epoch 5 with a top-1 of 85\xa0%." in view.finding
    assert "The sparsity changes in 2 epochs (dotted lines), to 90\xa0% in the end." in view.finding
    assert len(view.table.rows) == len(examples.history())


def test_epochs_of_fine_tuning_follow_those_of_dense_training():
    view = curves(examples.run()).views[0]
    test = [trace for trace in view.traces if trace["yaxis"] == "y" and trace["name"] == "test"]
    assert [list(trace["x"]) for trace in test] == [[0, 1, 2, 3, 4, 5], [5, 6, 7, 8, 9, 10]]


def test_events_are_changes_of_the_sparsity_also_when_weights_come_back():
    steps = [0.0, 0.5, 0.5, 0.0, 0.9]
    history = [Epoch("finetune", number, {"sparsity": value}) for number, value in enumerate(steps)]
    assert events(history) == [(1, 0.0, 0.5), (3, 0.5, 0.0), (4, 0.0, 0.9)]


def test_one_pruning_is_told_between_the_phases():
    history = [epoch for epoch in examples.history() if epoch.values.get("sparsity") != 0.5]
    view = curves(examples.run(schedule="one-shot", history=history)).views[0]
    assert "It was pruned to 90\xa0% between the two." in view.finding
    assert [note["text"] for note in view.layout["annotations"]] == ["pruned; fine-tuning →"]
    assert len(view.layout["shapes"]) == 1


def test_a_run_that_goes_on_says_so():
    assert "The run has not finished." in curves(examples.unfinished_run()).views[0].finding
    assert curves(examples.run(history=[])) is None
    only = replace(examples.run(), history=[Epoch("dense", 0, {"lr": 0.1})])
    assert curves(only) is None
    only = replace(only, history=[Epoch("dense", 1, {"train_loss": 0.1})])
    assert curves(only).views[0].finding == "No accuracy is measured yet."
