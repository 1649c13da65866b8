"""How much of every block is kept, with the floors, the blocks where they decide, and those that are dead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpmt.errors import FigureError
from gpmt.report.content.subject import Layer, Subject
from gpmt.report.figures.block_names import group_ticks, height_of_names
from gpmt.report.figures.choice import why
from gpmt.report.figures.legends import place_legend
from gpmt.report.figures.marks import MATPLOTLIB_MARKERS
from gpmt.report.figures.sizes import new_figure, percent, printable, shortened
from gpmt.report.palette import LIGHT, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gpmt.report.figures.paper_figure import PaperFigure

NAMED = 60
"""Up to so many blocks have a line and their name each; more are drawn in the order of the network."""


@dataclass(frozen=True)
class Block:
    """One block as it is drawn: its density and its floor as shares; None for a floor that is not known."""

    name: str
    numel: int
    kept: int
    density: float
    floor: float | None
    binds: bool
    dead: bool


@dataclass(frozen=True)
class Density:
    """The blocks of one network, and the share that all of them keep."""

    title: str
    kept: float
    unit: str
    blocks: tuple[Block, ...]


def density_of(subject: Subject) -> Density:
    """Return what a density figure draws of a run, a plan or a file.

    Raises `FigureError` where its blocks are not known.
    """
    blocks = tuple(_block(layer) for layer in subject.layers if layer.numel)
    if not blocks:
        raise FigureError(f"{subject.path} has no blocks to draw; {why(subject, 'layers')}")
    kept, numel = sum(block.kept for block in blocks), sum(block.numel for block in blocks)
    return Density(subject.title, kept / numel, subject.unit, blocks)


def _block(layer: Layer) -> Block:
    floor = None if layer.floor is None else layer.floor / layer.numel
    return Block(
        layer.name, layer.numel, layer.kept, layer.density, floor, bool(layer.binds), bool(layer.dead)
    )


def density_figure(
    densities: Sequence[Density], *, width: str | float = "column", title: str = ""
) -> PaperFigure:
    """Draw the density of every block on a logarithmic axis; one network, or several over each other.

    Up to 60 blocks are lines with their names; more are points in the order of the network. Of one network, points
    show where the floor decides; of several, each has its own colour and marker.

    Args:
        densities: what `density_of` returns; blocks of one name are drawn in one line.
        width: "column" (8.5 cm), "page" (17.5 cm), or cm.
        title: above the figure; none by default.
    """
    names = list(dict.fromkeys(block.name for density in densities for block in density.blocks))
    places = {name: place for place, name in enumerate(names)}
    axis = _ShareAxis(densities)
    named = len(names) <= NAMED
    with new_figure(width, height_of_names(len(names)) if named else 5) as figure:
        axes = figure.subplots()
        painter = _Painter(axes, axis, places, along_x=named)
        if len(densities) == 1:
            painter.one(densities[0])
        else:
            painter.several(densities)
        what = f"{printable(densities[0].unit)} kept"
        if named:
            axis.set_up(axes.xaxis, axes.set_xlim)
            axes.set_xscale("log")
            axis.set_up(axes.xaxis, axes.set_xlim)
            axes.set(xlabel=what, ylim=(len(names) - 0.4, -0.6))
            axes.set_yticks(range(len(names)), [shortened(name, 26) for name in names])
            axes.tick_params(axis="y", length=0)
        else:
            axes.set_yscale("log")
            axis.set_up(axes.yaxis, axes.set_ylim)
            axes.set(ylabel=what, xlabel="block, in the order of the network")
            axes.set_xlim(-0.01 * len(names), 1.01 * len(names) - 1)
            group_ticks(axes, names, figure.get_figwidth())
        place_legend(figure, axes, title)
    return figure


class _ShareAxis:
    """A logarithmic axis of shares, with a place for zero at its lower end where it is needed."""

    def __init__(self, densities: Sequence[Density]) -> None:
        blocks = [block for density in densities for block in density.blocks]
        shares = [share for block in blocks for share in (block.density, block.floor or 0) if share > 0]
        self.low = min(shares, default=0.01) / 1.5
        self.zero = self.low / 2.2 if any(block.dead for block in blocks) else None
        self.end = self.low if self.zero is None else self.zero / 1.3

    def place(self, share: float) -> float:
        """Return where a share is drawn."""
        return share if share > 0 or self.zero is None else self.zero

    def set_up(self, axis: Any, set_limits: Any) -> None:
        """Give an axis its limits and ticks, the latter in percent."""
        top = 1.2
        decades = range(math.floor(math.log10(self.low)), 1)
        factors = (1, 2, 5) if self.low > 0.02 else (1,)
        ticks = [
            share
            for decade in decades
            for factor in factors
            if self.low <= (share := factor * 10.0**decade) <= 1
        ]
        labels = [percent(share) for share in ticks]
        if self.zero is not None:
            ticks, labels = [self.zero, *ticks], ["0", *labels]
        axis.set_ticks(ticks, labels)
        axis.set_ticks([], minor=True)
        set_limits(self.end, top)


@dataclass(frozen=True)
class _Painter:
    """Draws blocks: their shares along x and places along y, or the other way round."""

    axes: Axes
    axis: _ShareAxis
    places: dict[str, int]
    along_x: bool

    def one(self, density: Density) -> None:
        """Draw one network, with what decides in each block."""
        self.stems(density)
        decided = any(block.binds for block in density.blocks)
        blocks = [block for block in density.blocks if not block.binds and not block.dead]
        label = "threshold decides" if decided else "kept"
        self.points(blocks, LIGHT.kept, "o", label)
        blocks = [block for block in density.blocks if block.binds and not block.dead]
        self.points(blocks, LIGHT.floor, "D", "floor decides", edge=LIGHT.text)
        self.points([block for block in density.blocks if block.dead], LIGHT.dead, "x", "no weight left")
        self.floors(density)
        self.line(density.kept, f"all: {percent(float(f'{density.kept:.3g}'))}")

    def several(self, densities: Sequence[Density]) -> None:
        """Draw several networks over each other, each in its own colour and marker."""
        for number, density in enumerate(densities):
            look = style(number)
            name = shortened(density.title, 40)
            self.points(density.blocks, look.colour, MATPLOTLIB_MARKERS[look.marker], name, hollow=True)

    def points(
        self,
        blocks: Sequence[Block],
        colour: str,
        marker: str,
        label: str,
        *,
        edge: str | None = None,
        hollow: bool = False,
    ) -> None:
        """Draw a point for each block."""
        if not blocks:
            return
        crowded = len(self.places) > NAMED
        size = 4.2 if not crowded else 3 if len(self.places) <= 200 else 2
        self._plot(
            [self.axis.place(block.density) for block in blocks],
            [self.places[block.name] for block in blocks],
            color="none" if hollow else colour,
            marker=marker,
            linestyle="none",
            markersize=size,
            markeredgecolor=colour if crowded or edge is None else edge,
            markeredgewidth=0.5 if crowded else 1 if hollow or marker == "x" else 0.5,
            label=label,
            gid=label,
            clip_on=False,
            zorder=3,
        )

    def stems(self, density: Density) -> None:
        """Draw a thin line from the end of the axis to each point, as far as they have lines of their own."""
        if self.along_x:
            places = [self.places[block.name] for block in density.blocks]
            shares = [self.axis.place(block.density) for block in density.blocks]
            self.axes.hlines(places, self.axis.end, shares, color=LIGHT.pruned, linewidth=1, zorder=2)
            self.axes.grid(visible=False, axis="y")

    def floors(self, density: Density) -> None:
        """Draw the floors: a tick on each line, or steps."""
        found = [(self.places[block.name], block.floor) for block in density.blocks if block.floor]
        if not found:
            return
        places, floors = zip(*found, strict=True)
        marker = "|" if self.along_x else "_"
        size = 6 if self.along_x else 3
        self._plot(
            floors,
            places,
            color=LIGHT.text,
            marker=marker,
            linestyle="none",
            markersize=size,
            markeredgewidth=0.8,
            label="floor",
            gid="floor",
            zorder=2.5,
        )

    def line(self, share: float, label: str) -> None:
        """Draw a line at the share of all blocks."""
        draw = self.axes.axvline if self.along_x else self.axes.axhline
        draw(share, color=LIGHT.muted, linestyle=(0, (4, 2)), linewidth=0.8, label=label, zorder=1.5)

    def _plot(self, shares: Sequence[Any], places: Sequence[Any], **look: Any) -> None:
        self.axes.plot(*((shares, places) if self.along_x else (places, shares)), **look)
