"""Training curves: accuracy, loss and sparsity by epoch, with the moments at which weights are pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpmt.report.content.subject import Epoch, Subject
from gpmt.report.page.picture import COLOURS, Picture, Table, View
from gpmt.report.page.wording import count, percent

_PANELS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("top-1", (("test_top1", "test"), ("train_top1", "training"), ("recalibrated_top1", "recalibrated"))),
    ("loss", (("test_loss", "test"), ("train_loss", "training"))),
    ("sparsity", (("sparsity", "sparsity"),)),
)
_LOOKS: Mapping[str, Mapping[str, Any]] = {
    "test": {"color": COLOURS.kept, "dash": "solid"},
    "training": {"color": COLOURS.muted, "dash": "dot"},
    "recalibrated": {"color": COLOURS.series[2], "dash": "dash"},
    "sparsity": {"color": COLOURS.series[1], "dash": "solid"},
}
_MARKS = 40
_SHARES = ("top1", "top5", "sparsity")


def curves(subject: Subject) -> Picture | None:
    """Return the curves of a run, None where nothing is measured."""
    history = [epoch for epoch in subject.history if epoch.values]
    if not history:
        return None
    places = _places(history)
    panels = [
        (title, [line for line in lines if any(line[0] in epoch.values for epoch in history)])
        for title, lines in _PANELS
    ]
    panels = [(title, lines) for title, lines in panels if lines]
    if not panels:
        return None
    traces = [
        trace
        for number, (_, lines) in enumerate(panels)
        for key, name in lines
        for trace in _lines(history, places, key, name, number)
    ]
    view = View(
        "", _finding(subject, history), traces, _layout(subject, history, places, panels), _table(history)
    )
    return Picture("Accuracy, loss and sparsity by epoch", [view], 90 + 150 * len(panels))


def _places(history: Sequence[Epoch]) -> list[float]:
    """Return where epochs are: fine-tuning begins where dense training ends."""
    last = max((epoch.number for epoch in history if epoch.phase == "dense"), default=0)
    return [epoch.number + (last if epoch.phase == "finetune" else 0) for epoch in history]


def events(history: Sequence[Epoch]) -> list[tuple[int, float, float]]:
    """Return when weights were pruned or came back: the index of the epoch, the sparsity before and after."""
    found, before = [], 0.0
    for index, epoch in enumerate(history):
        after = epoch.values.get("sparsity")
        if after is None:
            continue
        if abs(after - before) > 5e-4:
            found.append((index, before, after))
        before = after
    return found


def _lines(
    history: Sequence[Epoch], places: Sequence[float], key: str, name: str, panel: int
) -> list[dict[str, Any]]:
    """Return a line for each phase, so that none leads from one network to another."""
    axis = "" if panel == 0 else str(panel + 1)
    lines: list[dict[str, Any]] = []
    for phase in ("dense", "finetune"):
        at = [i for i, epoch in enumerate(history) if epoch.phase == phase and key in epoch.values]
        if not at:
            continue
        values = [history[index].values[key] for index in at]
        lines.append(
            {
                "x": [places[index] for index in at],
                "y": [100 * value for value in values] if key.endswith(_SHARES) else values,
                "yaxis": f"y{axis}",
                "mode": "lines+markers" if len(at) <= 40 else "lines",
                "line": {**_LOOKS[name], "width": 2},
                "marker": {"size": 5, "color": _LOOKS[name]["color"]},
                "name": name,
                "legendgroup": name,
                "showlegend": not lines and (panel == 0 or name == "sparsity"),
                "hovertext": [
                    f"{_PHASES[phase]}, epoch {history[index].number}<br>{_PANELS_BY_KEY[key]}, {name}: "
                    f"{_value(key, history[index].values[key])}"
                    for index in at
                ],
                "hoverinfo": "text",
            }
        )
    return lines


_PHASES = {"dense": "dense training", "finetune": "fine-tuning"}
_PANELS_BY_KEY = {key: title for title, lines in _PANELS for key, _ in lines}


def _layout(
    subject: Subject, history: Sequence[Epoch], places: Sequence[float], panels: Sequence[tuple[str, Any]]
) -> dict[str, Any]:
    gap, height = 0.07, (1 - 0.07 * (len(panels) - 1)) / len(panels)
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "epoch"}, "anchor": f"y{len(panels)}".rstrip("1") or "y"}
    }
    if len(panels) == 1:
        layout["xaxis"]["anchor"] = "y"
    for number, (title, _) in enumerate(panels):
        top = 1 - number * (height + gap)
        unit = "" if title == "loss" else " %"
        layout[f"yaxis{number + 1 if number else ''}"] = {
            "domain": [max(top - height, 0), top],
            "title": {"text": f"{title}{unit}"},
            **({} if title == "loss" else {"rangemode": "tozero"}),
        }
    shapes, notes = [], []
    once = subject.schedule == "one-shot"
    if not once:
        shapes = [
            _mark(places[index] - (0.5 if history[index].number else 0), COLOURS.event, "dot")
            for index, _, _ in events(history)[:_MARKS]
        ]
    start = next((places[i] for i, epoch in enumerate(history) if epoch.phase == "finetune"), None)
    if start:
        shapes.append(_mark(start, COLOURS.text, "solid"))
        notes.append(
            {"x": start, "y": 1, "yref": "paper", "xanchor": "left", "yanchor": "top", "xshift": 3}
            | {"text": "pruned; fine-tuning →" if once else "fine-tuning →", "showarrow": False}
        )
    return {**layout, "shapes": shapes, "annotations": notes}


def _mark(place: float, colour: str, dash: str) -> dict[str, Any]:
    line = {"color": colour, "width": 1.2, "dash": dash}
    return {"type": "line", "x0": place, "x1": place, "yref": "paper", "y0": 0, "y1": 1, "line": line}


def _finding(subject: Subject, history: Sequence[Epoch]) -> str:
    said = []
    for phase in ("dense", "finetune"):
        scored = [
            epoch
            for epoch in history
            if epoch.phase == phase and "test_top1" in epoch.values and epoch.number
        ]
        if scored:
            last = scored[-1]
            best = max(scored, key=lambda epoch: epoch.values["test_top1"])
            top1 = percent(last.values["test_top1"])
            sentence = f"{_PHASES[phase].capitalize()} ends epoch {last.number} with a top-1 of {top1}"
            if best.number != last.number:
                sentence += f" (best {percent(best.values['test_top1'])}, epoch {best.number})"
            said.append(f"{sentence}.")
    found = events(history)
    if found and subject.schedule == "one-shot":
        said.append(f"It was pruned to {percent(found[-1][2])} between the two.")
    elif found:
        final = found[-1][2]
        said.append(
            f"The sparsity changes in {count(len(found), 'epoch')} (dotted lines), to {percent(final)} in the end."
        )
    if not subject.finished:
        said.append("The run has not finished.")
    return " ".join(said) or "No accuracy is measured yet."


def _value(key: str, value: float) -> str:
    return percent(value) if key.endswith(_SHARES) else f"{value:.4g}"


def _table(history: Sequence[Epoch]) -> Table:
    keys = list(dict.fromkeys(key for epoch in history for key in epoch.values))
    rows = [
        [_PHASES[epoch.phase], str(epoch.number)]
        + [_value(key, epoch.values[key]) if key in epoch.values else "–" for key in keys]
        for epoch in history
    ]
    return Table(["phase", "epoch", *(key.replace("_", " ") for key in keys)], rows)
