"""Reading back what a figure has drawn."""

from typing import Any


def lines(figure: Any, panel: int = 0) -> dict[str, list[tuple[float, float]]]:
    """Return the points of every line that has a name (gid)."""
    found = {}
    for line in figure.axes[panel].get_lines():
        if line.get_gid():
            xs, ys = line.get_data()
            found[line.get_gid()] = list(zip(map(float, xs), map(float, ys), strict=True))
    return found


def legend(figure: Any) -> list[str]:
    """Return the texts of the legends."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def ticks(axis: Any) -> list[str]:
    """Return the texts of the ticks of an axis."""
    return [text.get_text() for text in axis.get_ticklabels()]


def inside(figure: Any) -> bool:
    """Whether every text of the legends and axes is within the figure, as drawn."""
    figure.draw_without_rendering()
    whole = figure.bbox
    both = [(axis, limits) for axes in figure.axes for axis, limits in _axes_of(axes)]
    texts = [axis.label for axis, _ in both]
    texts += [
        tick.label1
        for axis, (low, high) in both
        for tick in axis.get_major_ticks()
        if min(low, high) <= tick.get_loc() <= max(low, high)
    ]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    return all(
        box.x0 >= whole.x0 - 1
        and box.x1 <= whole.x1 + 1
        and box.y0 >= whole.y0 - 1
        and box.y1 <= whole.y1 + 1
        for box in boxes
    )


def _axes_of(axes: Any) -> list[tuple[Any, tuple[float, float]]]:
    return [(axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())]
