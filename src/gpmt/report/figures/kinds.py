"""The kinds of figures by their names: what each draws of a report, and the figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from gpmt.errors import FigureError
from gpmt.report.content.report import Report
from gpmt.report.content.subject import Subject
from gpmt.report.figures.choice import distinct_titles
from gpmt.report.figures.curve import curve_figure
from gpmt.report.figures.density import density_figure, density_of
from gpmt.report.figures.filters import filters_figure, filters_of
from gpmt.report.figures.histogram import histogram_figure, magnitudes_of
from gpmt.report.figures.pareto import pareto_figure
from gpmt.report.figures.series import X, accuracies_of
from gpmt.report.figures.training import training_figure, training_of
from gpmt.suggestions import did_you_mean

if TYPE_CHECKING:
    from gpmt.report.figures.paper_figure import PaperFigure

FORMATS = ("svg", "pdf", "png")


@dataclass(frozen=True)
class Kind:
    """A kind of figure: what it shows, what it draws of a report given the options it has, and how."""

    about: str
    data: Callable[..., Any]
    draw: Callable[..., PaperFigure]
    options: tuple[str, ...] = ()


KINDS = {
    "density": Kind(
        "the share that every block keeps, floors, dead blocks",
        lambda report: [density_of(subject) for subject in _subjects(report)],
        density_figure,
    ),
    "histogram": Kind(
        "magnitudes before and after, with the threshold",
        lambda report, layer="": magnitudes_of(_only(report), layer),
        histogram_figure,
        ("layer",),
    ),
    "curve": Kind(
        "accuracy against sparsity",
        lambda report, chance=None: accuracies_of(report, "sparsity", chance=chance),
        curve_figure,
        ("chance",),
    ),
    "pareto": Kind(
        "accuracy against cost, the best marked",
        lambda report, x="macs", chance=None: accuracies_of(report, x, chance=chance),
        pareto_figure,
        ("x", "chance"),
    ),
    "training": Kind(
        "accuracy and loss over the epochs",
        lambda report: [training_of(subject) for subject in _subjects(report)],
        training_figure,
    ),
    "filters": Kind(
        "filters and channels that are entirely zero",
        lambda report, layer="": filters_of(_only(report), layer),
        filters_figure,
        ("layer",),
    ),
}


def data_of(kind: str, report: Report, **options: Any) -> Any:
    """Return what a figure draws of a report, to be given to `draw`; `plain` makes values for JSON of it.

    Args:
        kind: a key of `KINDS`.
        report: what `read_report` returns.
        options: "layer", "x" and "chance", as the kind has them; None for those not given.

    Raises `FigureError` for an option that the kind does not have, and where the report has nothing to draw.
    """
    found = kind_of(kind)
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.keys() - set(found.options):
        others = " or ".join(other for other, each in KINDS.items() if name in each.options)
        raise FigureError(f"--{name} belongs to {others}; leave it out for {kind}")
    if given.get("x", "macs") not in get_args(X):
        raise FigureError(f"--x is {given['x']!r}, but must be {', '.join(get_args(X))}")
    return found.data(report, **given)


def draw(kind: str, data: Any, *, width: str | float = "column", title: str = "") -> PaperFigure:
    """Draw what `data_of` has returned."""
    return kind_of(kind).draw(data, width=width, title=title)


def plain(data: Any) -> Any:
    """Return what is drawn as values that JSON has."""
    return [asdict(each) for each in data] if isinstance(data, list) else asdict(data)


def kind_of(name: str) -> Kind:
    """Return a kind of figure; raise `FigureError` for a name that there is not."""
    if name not in KINDS:
        raise FigureError(f"there is no figure {name}; {did_you_mean(name, KINDS)}")
    return KINDS[name]


def format_of(path: Path) -> str:
    """Return the format that the end of a file's name asks for; raise `FigureError` for others."""
    found = path.suffix.lower().removeprefix(".")
    if found not in FORMATS:
        raise FigureError(f"{path} does not say its format; let its name end in .svg, .pdf or .png")
    return found


def _subjects(report: Report) -> list[Subject]:
    """Return the runs, plans and files of a report, with titles that tell them apart."""
    subjects = list(report.subjects)
    if not subjects:
        paths = ", ".join(grid.path for grid in report.grids) or "nothing"
        raise FigureError(
            f"{paths} is no run, plan or file of weights; give one, such as a run in that folder"
        )
    titles = distinct_titles(subjects)
    return [replace(subject, title=title) for subject, title in zip(subjects, titles, strict=True)]


def _only(report: Report) -> Subject:
    subjects = _subjects(report)
    if len(subjects) > 1:
        raise FigureError(f"this figure shows one network, but {len(subjects)} were given; give one path")
    return subjects[0]
