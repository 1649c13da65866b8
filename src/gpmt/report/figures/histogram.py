"""The magnitudes of weights before and after pruning, with the threshold drawn in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpmt.errors import FigureError
from gpmt.report.content.subject import Histogram, Subject
from gpmt.report.figures.choice import chosen, why
from gpmt.report.figures.legends import place_legend
from gpmt.report.figures.sizes import new_figure
from gpmt.report.palette import LIGHT

if TYPE_CHECKING:
    from gpmt.report.figures.paper_figure import PaperFigure


@dataclass(frozen=True)
class Magnitudes:
    """The histogram that is drawn: `edges` are magnitudes, counts are of weights in each bin."""

    title: str
    block: str
    edges: tuple[float, ...]
    before: tuple[int, ...] | None
    after: tuple[int, ...] | None
    zeros_before: int
    zeros_after: int
    threshold: float | None


def magnitudes_of(subject: Subject, block: str = "") -> Magnitudes:
    """Return what a histogram draws: all weights in the scope, or one block.

    Raises `FigureError` where it is not known.
    """
    if not subject.histograms:
        raise FigureError(f"{subject.path} has no histograms to draw; {why(subject, 'histograms')}")
    found: Histogram = chosen({each.name: each for each in subject.histograms}, block, subject.path)
    if found.before is None and found.after is None:
        raise FigureError(f"{subject.path} has a histogram without counts; give a run or a file of weights")
    return Magnitudes(
        subject.title,
        found.name,
        tuple(10.0**edge for edge in found.edges),
        found.before,
        found.after,
        found.zeros_before,
        found.zeros_after,
        found.threshold,
    )


def histogram_figure(
    magnitudes: Magnitudes, *, width: str | float = "column", title: str = ""
) -> PaperFigure:
    """Draw how many weights have which magnitude, before pruning in grey and after it in colour.

    Args:
        magnitudes: what `magnitudes_of` returns.
        width: "column" (8.5 cm), "page" (17.5 cm), or cm.
        title: above the figure; none by default.
    """
    with new_figure(width, 5) as figure:
        axes = figure.subplots()
        edges = magnitudes.edges
        if magnitudes.before is not None:
            label = f"before{_zeros(magnitudes.zeros_before)}"
            axes.stairs(magnitudes.before, edges, fill=True, color=LIGHT.pruned, label=label, gid="before")
            axes.stairs(magnitudes.before, edges, color=LIGHT.muted, linewidth=0.6)
        if magnitudes.after is not None:
            label = f"after{_zeros(magnitudes.zeros_after)}"
            axes.stairs(
                magnitudes.after, edges, fill=True, color=LIGHT.kept, alpha=0.75, label=label, gid="after"
            )
            axes.stairs(magnitudes.after, edges, color=LIGHT.kept, linewidth=1)
        if magnitudes.threshold is not None and magnitudes.threshold > 0:
            axes.axvline(
                magnitudes.threshold,
                color=LIGHT.threshold,
                linestyle=(0, (4, 1.5)),
                label=f"threshold {magnitudes.threshold:.3g}",
                gid="threshold",
            )
        axes.set_xscale("log")
        low, high = _limits(magnitudes)
        decades = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
        axes.set_xticks([10.0**decade for decade in decades], [f"{10.0**decade:g}" for decade in decades])
        axes.set_xticks([], minor=True)
        axes.set_xlim(low, high)
        axes.set_ylim(bottom=0)
        axes.locator_params(axis="y", nbins=5, integer=True)
        axes.yaxis.set_major_formatter(lambda count, _: short(count))
        axes.grid(visible=False, axis="x")
        axes.set(xlabel="magnitude of a weight", ylabel="weights in a bin")
        place_legend(figure, axes, title)
    return figure


def short(count: float) -> str:
    """Format a count in few letters.

    >>> short(950), short(12_000), short(1_500_000), short(0)
    ('950', '12 k', '1.5 M', '0')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= size:
            return f"{count / size:g} {unit}"
    return f"{count:g}"


def _zeros(count: int) -> str:
    return f" (and {count:,} zeros)" if count else ""


def _limits(magnitudes: Magnitudes) -> tuple[float, float]:
    """Return the magnitudes from the first to the last bin with any weight, one decade of them at least."""
    edges = magnitudes.edges
    counts = [
        sum(pair)
        for pair in zip(
            magnitudes.before or (0,) * (len(edges) - 1),
            magnitudes.after or (0,) * (len(edges) - 1),
            strict=True,
        )
    ]
    used = [place for place, count in enumerate(counts) if count] or [0, len(counts) - 1]
    low, high = edges[used[0]], edges[used[-1] + 1]
    if magnitudes.threshold:
        low, high = min(low, magnitudes.threshold), max(high, magnitudes.threshold)
    return min(low, high / 10) / 1.1, high * 1.1
