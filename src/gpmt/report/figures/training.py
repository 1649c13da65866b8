"""Accuracy and loss over the epochs of training, with the moments of pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpmt.errors import FigureError
from gpmt.report.content.subject import Epoch, Subject
from gpmt.report.figures.choice import why
from gpmt.report.figures.legends import place_legend
from gpmt.report.figures.marks import MATPLOTLIB_DASHES
from gpmt.report.figures.sizes import new_figure, percent, shortened
from gpmt.report.palette import LIGHT, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gpmt.report.figures.paper_figure import PaperFigure

_MARKED = 12
"""Up to so many pruning events are lines; of more only the time between the first and the last is shown."""


@dataclass(frozen=True)
class Event:
    """A moment at which the sparsity has changed: after how many epochs, and to what; None where it is not known."""

    epoch: int
    sparsity: float | None


@dataclass(frozen=True)
class Training:
    """The curves of one run over the epochs of all its phases together.

    Attributes:
        title: of the run.
        curves: by column of history.csv, the (epoch, value) that were measured.
        events: when it was pruned.
    """

    title: str
    curves: dict[str, tuple[tuple[int, float], ...]]
    events: tuple[Event, ...]


_COLUMNS = ("test_top1", "train_top1", "test_loss", "train_loss", "sparsity")


def training_of(subject: Subject) -> Training:
    """Return what a training figure draws of a run.

    Raises `FigureError` where no epochs are known.
    """
    if not subject.history:
        raise FigureError(f"{subject.path} has no history of training to draw; {why(subject, 'history')}")
    before = max((epoch.number for epoch in subject.history if epoch.phase == "dense"), default=0)
    placed = [
        (epoch.number + (before if epoch.phase == "finetune" else 0), epoch) for epoch in subject.history
    ]
    curves = {
        column: tuple((place, epoch.values[column]) for place, epoch in placed if column in epoch.values)
        for column in _COLUMNS
    }
    curves = {column: points for column, points in curves.items() if points}
    if not {"test_top1", "test_loss", "train_top1", "train_loss"} & curves.keys():
        raise FigureError(f"{subject.path} has neither accuracies nor losses of its epochs to draw")
    return Training(subject.title, curves, tuple(_events(placed)))


def _events(placed: Sequence[tuple[int, Epoch]]) -> list[Event]:
    """Find the epochs with another sparsity than before; the first of fine-tuning where no sparsity is known.

    An epoch's sparsity is that at its end, so the change was after the epoch before it.
    """
    found: list[Event] = []
    sparsity = 0.0
    for place, epoch in placed:
        if epoch.phase == "dense":
            continue
        now = epoch.values.get("sparsity")
        start = place if epoch.number == 0 else place - 1
        if now is not None and now != sparsity:
            if found and found[-1].epoch == start:
                found.pop()
            found.append(Event(start, now))
            sparsity = now
    if not found and not any("sparsity" in epoch.values for _, epoch in placed):
        first = (place for place, epoch in placed if epoch.phase == "finetune")
        found += [Event(place, None) for place in list(first)[:1]]
    return found


def training_figure(
    trainings: Sequence[Training], *, width: str | float = "column", title: str = ""
) -> PaperFigure:
    """Draw the accuracies of a run over its epochs, and its losses below, with vertical lines where it is pruned.

    Of several runs the test accuracy and loss are drawn, each in its own colour.

    Args:
        trainings: what `training_of` returns.
        width: "column" (8.5 cm), "page" (17.5 cm), or cm.
        title: above the figure; none by default.
    """
    panels = [
        columns
        for columns in (("test_top1", "train_top1"), ("test_loss", "train_loss"))
        if any(column in training.curves for training in trainings for column in columns)
    ]
    with new_figure(width, 1.2 + 3.2 * len(panels)) as figure:
        several = len(trainings) > 1
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (test, train) in zip(rows, panels, strict=True):
            for number, training in enumerate(trainings):
                if several:
                    look = style(number)
                    dash = MATPLOTLIB_DASHES[look.dash]
                    name = shortened(training.title, 40)
                    _line(axes, training, test, color=look.colour, linestyle=dash, label=name)
                else:
                    _line(axes, training, test, color=LIGHT.kept, label="test")
                    dash = MATPLOTLIB_DASHES["dash"]
                    _line(axes, training, train, color=LIGHT.muted, linestyle=dash, label="training")
                    _draw_events(axes, training.events)
            if several and all(training.events == trainings[0].events for training in trainings):
                _draw_events(axes, trainings[0].events)
            axes.set_ylabel("top-1" if test == "test_top1" else "loss")
            if test == "test_top1":
                axes.yaxis.set_major_formatter(lambda share, _: percent(round(share, 6)))
            else:
                axes.set_ylim(bottom=0)
        rows[-1].set_xlabel("epoch")
        rows[-1].locator_params(axis="x", nbins=8, integer=True)
        figure.align_ylabels()
        place_legend(figure, rows[0], title)
    return figure


def _line(axes: Axes, training: Training, column: str, **look: Any) -> None:
    if points := training.curves.get(column):
        axes.plot(
            *zip(*points, strict=True),
            gid=column,
            marker="o",
            markersize=2.2 if len(points) <= 40 else 0,
            **look,
        )


def _draw_events(axes: Axes, events: Sequence[Event]) -> None:
    """Draw a line at each event with its sparsity, or a band where there are many."""
    if not events:
        return
    if len(events) > _MARKED:
        first, last = events[0], events[-1]
        axes.axvspan(
            first.epoch, last.epoch, color=LIGHT.event, alpha=0.2, linewidth=0, label="pruned in steps"
        )
        return
    for number, event in enumerate(events):
        axes.axvline(
            event.epoch,
            color=LIGHT.event,
            linestyle=(0, (1, 1.2)),
            linewidth=1.2,
            label="pruned" + _to(events) if number == 0 else None,
            gid="event",
            zorder=1.5,
        )


def _to(events: Sequence[Event]) -> str:
    """Say to which sparsity the events prune, where it is known."""
    steps = [percent(float(f"{event.sparsity:.4g}")) for event in events if event.sparsity is not None]
    if not steps:
        return ""
    return f" to {steps[0]}" if len(steps) == 1 else f" from {steps[0]} to {steps[-1]}"
