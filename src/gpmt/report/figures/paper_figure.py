"""A Matplotlib figure that is drawn and written the same everywhere, whatever the user's settings."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from io import BytesIO
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

from gpmt.report.palette import LIGHT

_SETTINGS: dict[str, Any] = {
    # Comes with Matplotlib, so sizes of texts are the same everywhere; the others are for readers of SVG files.
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "text.parse_math": False,
    "text.hinting": "none",
    "text.color": LIGHT.text,
    "axes.labelcolor": LIGHT.text,
    "axes.edgecolor": LIGHT.muted,
    "xtick.color": LIGHT.muted,
    "ytick.color": LIGHT.muted,
    "xtick.labelcolor": LIGHT.text,
    "ytick.labelcolor": LIGHT.text,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.xmargin": 0.03,
    "grid.color": LIGHT.grid,
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "errorbar.capsize": 1.5,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "savefig.dpi": 300,
    "svg.fonttype": "none",
    "svg.hashsalt": "gpmt",
    "pdf.fonttype": 42,
}
_NO_DATES: dict[str, dict[str, None]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}


def paper_style() -> AbstractContextManager[None]:
    """Return a context with the settings of all figures, in which they are drawn and written."""
    settings: AbstractContextManager[None] = style.context(["default", _SETTINGS])
    return settings


class PaperFigure(Figure):
    """A figure for a paper; in a notebook it shows itself."""

    def savefig(self, fname: Any, *, format: str | None = None, **options: Any) -> None:
        """Write the figure as Matplotlib does, with the settings of all figures and without the date."""
        kind = (format or str(fname).rpartition(".")[2]).lower()
        with paper_style(), warnings.catch_warnings():
            # Names in other scripts are texts in SVG all the same, and boxes elsewhere.
            warnings.filterwarnings("ignore", "Glyph .* missing")
            super().savefig(fname, format=format, **{"metadata": _NO_DATES.get(kind), **options})

    def rendered(self, format: str) -> bytes:
        """Return the content of a file: "svg", "pdf" or "png"."""
        file = BytesIO()
        self.savefig(file, format=format)
        return file.getvalue()

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png", dpi=160)
        return file.getvalue()
