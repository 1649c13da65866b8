"""The page: one HTML file with all that it shows, which needs neither a server nor the internet."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpmt.atomic import atomic_path
from gpmt.errors import ReportError
from gpmt.extras import import_extra, missing
from gpmt.report.content.checklist import checklist
from gpmt.report.content.grid import Grid
from gpmt.report.content.report import Report
from gpmt.report.content.subject import Subject
from gpmt.report.page import grid_summary, summary
from gpmt.report.page.picture import Picture, Table, colours
from gpmt.report.page.sections import sections
from gpmt.report.palette import DARK, LIGHT

_TEMPLATES = Path(__file__).parent / "templates"
_PACKED_FROM = 50_000
"""Data of so many characters is compressed."""
_ROWS = 25
"""Rows of a table that a browser shows at a time."""
_OPEN = 3
"""So many subjects show all their numbers in the summary; those of more open on a click."""


def write_page(report: Report, path: str | os.PathLike[str], *, refresh: int | None = None) -> None:
    """Write a report as one HTML file, which opens from disk and loads nothing.

    Args:
        report: what to tell, as `read_report` returns it.
        path: the file; replaced as a whole.
        refresh: seconds after which an open page loads itself anew, None for never.

    Raises:
        ReportError: jinja2 or plotly is not installed.
        CheckpointError: the file cannot be written.
    """
    text = page(report, refresh=refresh)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_extra() -> None:
    """Raise `ReportError`, with the remedy, where the libraries of the page are not installed."""
    import_extra("jinja2", ReportError)
    _plotly_file()


def page(report: Report, *, refresh: int | None = None) -> str:
    """Return a report as HTML; arguments and errors are those of `write_page`."""
    jinja2: Any = import_extra("jinja2", ReportError)
    report = _told_apart(report)
    found = sections(report)
    drawn = any(block.pictures for section in found for block in section.blocks)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = _json
    environment.globals |= {"data": _data, "rows_shown": _ROWS}
    both: list[Grid | Subject] = [*report.grids, *report.subjects]
    script = (_TEMPLATES / "script.js").read_text(encoding="utf-8")
    style = environment.get_template("style.css").render(light=LIGHT, dark=DARK)
    titles = [("summary", "Summary"), *((section.id, section.title) for section in found)]
    text: str = environment.get_template("page.html").render(
        report=report,
        refresh=refresh,
        made=_moment(report.made),
        nonce=hashlib.sha256(repr(report).encode()).hexdigest()[:24],
        style=style,
        script=script,
        plotly=_plotly() if drawn else "",
        colours={"light": colours(LIGHT), "dark": colours(DARK)},
        contents=[*titles, ("checklist", "Checklist")],
        grids=[_grid(grid) for grid in report.grids],
        subjects=[_subject(subject, len(report.subjects)) for subject in report.subjects],
        sections=found,
        checklist=checklist(report),
        missing=[(one.title, one.missing) for one in both if one.missing],
    )
    return text


def _told_apart(report: Report) -> Report:
    """Return the report with titles that differ: runs of one recipe have the same, but not the same folder."""
    titles = Counter(subject.title for subject in report.subjects)
    folders = Counter(Path(subject.path).name for subject in report.subjects)
    subjects = [
        subject
        if titles[subject.title] == 1
        else replace(subject, title=name if folders[name] == 1 else subject.path)
        for subject in report.subjects
        for name in [Path(subject.path).name]
    ]
    return replace(report, subjects=subjects)


def _moment(made: str) -> str:
    """Return a time as people write it."""
    try:
        when = datetime.fromisoformat(made)
    except ValueError:
        return made
    return f"{when.day} {when:%B %Y, %H:%M %Z}".strip()


def _grid(grid: Grid) -> dict[str, Any]:
    return {
        "title": grid.title,
        "kind": grid.kind,
        "path": grid.path,
        "verdict": grid_summary.verdict(grid),
        "facts": grid_summary.facts(grid),
        "matrix": grid_summary.matrix(grid),
        "warnings": grid.warnings,
    }


def _subject(subject: Subject, subjects: int) -> dict[str, Any]:
    return {
        "title": subject.title,
        "kind": subject.kind,
        "path": subject.path,
        "verdict": summary.verdict(subject),
        "bars": summary.bars(subject),
        "facts": summary.facts(subject),
        "warnings": subject.warnings,
        "folded": subjects > _OPEN,
    }


def _data(part: Picture | Table) -> str:
    """Return the element that holds what the script reads."""
    text = _json(part.to_dict())
    if len(text) < _PACKED_FROM:
        return f'<script type="application/json">{text}</script>'
    return f'<script type="application/gzip">{_packed(text.encode())}</script>'


def _json(value: Any) -> str:
    """Return JSON that can stand in a script element, whatever text is in it."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _finite(value: Any) -> Any:
    """Return a value with null in place of numbers that JSON does not have, as a diverged loss."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()


@cache
def _plotly() -> str:
    """Return Plotly's library, compressed."""
    return _packed(_plotly_file().read_bytes())


def _plotly_file() -> Path:
    """Return the file of Plotly's library; the package is not imported for it, which takes long."""
    found = find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        raise ReportError(missing("plotly"))
    return Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
