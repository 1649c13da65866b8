"""How much each block can be pruned alone: blocks by sparsities, and what a plan keeps of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpmt.errors import FigureError
from gpmt.report.content.sensitivity import SensitivityTable
from gpmt.report.figures.block_names import groups, height_of_names
from gpmt.report.figures.density import NAMED
from gpmt.report.figures.sizes import new_figure, percent, printable, shortened
from gpmt.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gpmt.report.figures.paper_figure import PaperFigure

_LETTER = 0.22
"""The width of a letter of a name, in cm."""
_GROUPS = 40


def sensitivity_figure(
    table: SensitivityTable, *, width: str | float = "column", title: str = ""
) -> PaperFigure:
    """Draw a line for each block and a field for each sparsity, darker where pruning the block alone costs more.

    Where a plan is known, bars show the share that it keeps of each block. Up to 60 blocks have their names, and
    fields their values where there is room.

    Args:
        table: what was measured.
        width: "column" (8.5 cm), "page" (17.5 cm), or cm.
        title: above the figure; none by default.

    Raises:
        FigureError: there is no block, or the width is not one.
    """
    if not table.blocks:
        raise FigureError("no block is measured yet, so there is nothing to draw; measure some first")
    names = [block.name for block in table.blocks]
    named = len(names) <= NAMED
    planned = all(block.density is not None for block in table.blocks)
    with new_figure(width, height_of_names(len(names)) + 0.9 if named else 12) as figure:
        shares = [3.0, 1.0] if planned else [1.0]
        axes = figure.subplots(1, len(shares), sharey=True, squeeze=False, width_ratios=shares)[0]
        room = 2.54 * figure.get_figwidth() - _LETTER * min(max(map(len, names)), 22)
        _fields(axes[0], table, texts=named and room * shares[0] / sum(shares) > 0.58 * len(table.sparsities))
        if planned:
            _bars(axes[1], [block.density or 0.0 for block in table.blocks])
        if named:
            axes[0].set_yticks(range(len(names)), [shortened(name, 22) for name in names])
        else:
            found = groups(names)
            found = found if len(found) <= _GROUPS else []
            axes[0].set_yticks(
                [first + (size - 1) / 2 for _, first, size in found],
                [shortened(name, 22) for name, *_ in found],
            )
            axes[0].set_ylabel("block, in the order of the network")
        axes[0].tick_params(axis="y", length=0)
        if title:
            figure.suptitle(printable(title), x=0.01, ha="left", fontweight="bold")
    return figure


def shown(value: float, table: SensitivityTable) -> str:
    """Format a value without its unit, in at most four characters as far as that goes."""
    if table.metric == "top1":
        return f"{100 * value:.0f}" if value >= 0.9995 else f"{100 * value:.1f}"
    return f"{value:.2f}" if abs(value) < 9.995 else f"{value:.3g}"


def _number(share: float) -> str:
    return percent(share).removesuffix(" %")


def _fields(axes: Axes, table: SensitivityTable, *, texts: bool) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    # A square root, since most blocks cost little at most sparsities.
    depths = [[cost**0.5 for cost in row] for row in table.costs()]
    colours = LinearSegmentedColormap.from_list("cost", [LIGHT.background, LIGHT.threshold])
    axes.pcolormesh(
        range(len(table.sparsities)),
        range(len(table.blocks)),
        depths,
        shading="nearest",
        cmap=colours,
        vmin=0,
        vmax=1.1,
        edgecolors=LIGHT.grid,
        linewidth=0.3,
        gid="fields",
    )
    if texts:
        for row, block in enumerate(table.blocks):
            for column, value in enumerate(block.values):
                axes.text(column, row, shown(value, table), ha="center", va="center", fontsize=6)
    what = "top-1 (%)" if table.metric == "top1" else "loss"
    axes.set_title(
        f"{what}, dense {shown(table.dense, table)}, darkest {shown(table.worst, table)}", loc="left"
    )
    axes.grid(visible=False)
    axes.set_xticks(range(len(table.sparsities)), [_number(sparsity) for sparsity in table.sparsities])
    axes.tick_params(axis="x", length=0)
    axes.set(xlim=(-0.5, len(table.sparsities) - 0.5), ylim=(len(table.blocks) - 0.5, -0.5))
    axes.set_xlabel("sparsity of the block (%)")


def _bars(axes: Axes, densities: Sequence[float]) -> None:
    axes.barh(range(len(densities)), densities, height=0.7, color=LIGHT.kept, gid="kept")
    axes.set_xscale("log")
    low = min((density for density in densities if density > 0), default=0.1)
    axes.set_xlim(min(0.09, low / 1.5), 1)
    ticks = [tick for tick in (0.0001, 0.001, 0.01, 0.1, 1) if tick >= min(0.09, low / 1.5)]
    axes.set_xticks(ticks, [_number(tick) for tick in ticks])
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("kept (%)")
