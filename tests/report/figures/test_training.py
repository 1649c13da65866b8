from dataclasses import replace

import pytest
from tests.report import examples
from tests.report.figures.drawn import inside, legend, lines

from gpmt.errors import FigureError
from gpmt.report.content.subject import Epoch
from gpmt.report.figures.training import Event, training_figure, training_of


def test_curves_are_the_history_with_the_phases_after_each_other():
    subject = examples.run()
    figure = training_figure([training_of(subject)])
    expected = [
        (epoch.number + (5 if epoch.phase == "finetune" else 0), epoch.values["test_top1"])
        for epoch in subject.history
    ]
    assert lines(figure)["test_top1"] == expected
    assert [y for _, y in lines(figure, 1)["test_loss"]] == [e.values["test_loss"] for e in subject.history]
    assert [x for x, _ in lines(figure)["train_top1"]] == [1, 2, 3, 4, 5]
    assert legend(figure) == ["test", "training", "pruned from 50 % to 90 %"]
    assert inside(figure)


def history(*sparsities):
    return [Epoch("dense", 0, {"test_top1": 0.1}), Epoch("dense", 1, {"test_top1": 0.9})] + [
        Epoch("finetune", number, {"test_top1": 0.5} | ({} if sparsity is None else {"sparsity": sparsity}))
        for number, sparsity in enumerate(sparsities)
    ]


@pytest.mark.parametrize(
    ("sparsities", "events"),
    [
        ((0.9, 0.9, 0.9), (Event(1, 0.9),)),
        ((None, 0.9, 0.9), (Event(1, 0.9),)),
        ((None, 0.5, 0.9, 0.9), (Event(1, 0.5), Event(2, 0.9))),
        ((0.0, 0.0, 0.9, 0.0, 0.9), (Event(2, 0.9), Event(3, 0.0), Event(4, 0.9))),
        ((0.5, 0.9), (Event(1, 0.9),)),
        ((None, None), (Event(1, None),)),
        ((), ()),
    ],
)
def test_events_are_where_the_sparsity_changes(sparsities, events):
    assert training_of(examples.run(history=history(*sparsities))).events == events


def test_many_events_are_a_band():
    training = training_of(examples.run(history=history(*(n / 100 for n in range(1, 90)))))
    figure = training_figure([training])
    assert "pruned in steps" in legend(figure)
    assert "event" not in lines(figure)


def test_several_runs_have_a_line_each():
    other = replace(examples.collapsed_run(), history=examples.history(2))
    figure = training_figure([training_of(examples.run()), training_of(other)])
    assert legend(figure)[:2] == [examples.run().title, other.title]
    tops = [line for line in figure.axes[0].get_lines() if line.get_gid() == "test_top1"]
    assert [len(line.get_xdata()) for line in tops] == [12, 9]


def test_one_epoch_and_only_losses():
    training = training_of(examples.run(history=[Epoch("dense", 0, {"test_loss": 2.0})]))
    figure = training_figure([training])
    assert len(figure.axes) == 1
    assert lines(figure)["test_loss"] == [(0, 2.0)]


def test_what_is_missing_is_named():
    with pytest.raises(
        FigureError, match=r"plan.json has no history of training to draw; history: a plan has none"
    ):
        training_of(examples.plan())
    with pytest.raises(FigureError, match="neither accuracies nor losses"):
        training_of(examples.run(history=[Epoch("dense", 0, {"lr": 0.1})]))
