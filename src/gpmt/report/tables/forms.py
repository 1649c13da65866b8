"""Tables written as Markdown, as LaTeX with booktabs, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from gpmt.errors import FigureError
from gpmt.report.tables.table import Table
from gpmt.suggestions import did_you_mean

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "σ": r"$\sigma$",
    "–": "--",
    "…": r"\dots{}",
    "[": "{[}",
    "]": "{]}",
}
_MARKDOWN = {letter: f"\\{letter}" for letter in "\\`*_[]<>|~"} | {"&": "&amp;"}


def markdown(table: Table) -> str:
    """Write a table as Markdown, the best in bold.

    >>> print(markdown(Table("", ["method", "90 %"], [["GP", "1.0"], ["a_b", "2.0"]], frozenset({(1, 1)}))))
    | method | 90 % |
    |:---|---:|
    | GP | 1.0 |
    | a\\_b | **2.0** |
    <BLANKLINE>
    """
    lines = [_line(_escaped(head, _MARKDOWN) for head in table.heads)]
    lines.append("|:---|" + "---:|" * (len(table.heads) - 1))
    for number, row in enumerate(table.rows):
        cells = [_escaped(text, _MARKDOWN) for text in row]
        lines.append(
            _line(
                f"**{text}**" if (number, column) in table.bold else text for column, text in enumerate(cells)
            )
        )
    notes = [f"\n{_escaped(note, _MARKDOWN)}" for note in table.notes]
    return "\n".join([*lines, *notes, ""])


def latex(table: Table) -> str:
    """Write a table as LaTeX, for a document that has ``\\usepackage{booktabs}``; the best in bold."""
    rows = []
    for number, row in enumerate(table.rows):
        cells = [_escaped(text, _LATEX) for text in row]
        cells = [
            rf"\textbf{{{text}}}" if (number, column) in table.bold else text
            for column, text in enumerate(cells)
        ]
        if table.totals and number == len(table.rows) - 1:
            rows.append(r"\midrule")
        rows.append(rf"{' & '.join(cells)} \\")
    heads = " & ".join(_escaped(head, _LATEX) for head in table.heads)
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.heads) - 1)}}}",
            r"\toprule",
            rf"{heads} \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            *(f"% {_one_line(note)}" for note in table.notes),
            "",
        ]
    )


def comma_separated(table: Table) -> str:
    """Write the numbers of a table as CSV with all digits, one record a line."""
    text = io.StringIO()
    names = list(table.records[0]) if table.records else []
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.records)
    return text.getvalue()


FORMS: dict[str, Callable[[Table], str]] = {"markdown": markdown, "latex": latex, "csv": comma_separated}
_SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv"}


def form_of(name: str | None, path: Path | None) -> str:
    """Return the form that a name asks for, or else the end of a file's name; Markdown without both.

    Raises `FigureError` for others.

    >>> form_of(None, Path("results.tex")), form_of("csv", Path("results.tex")), form_of(None, None)
    ('latex', 'csv', 'markdown')
    """
    if name is not None:
        if name not in FORMS:
            raise FigureError(f"there is no form {name} of tables; {did_you_mean(name, FORMS)}")
        return name
    if path is None:
        return "markdown"
    if path.suffix.lower() not in _SUFFIXES:
        raise FigureError(
            f"{path} does not say its form; let its name end in .md, .tex or .csv, or give --format"
        )
    return _SUFFIXES[path.suffix.lower()]


def written(tables: Sequence[Table], form: str) -> str:
    """Write several tables one after the other, with their titles where there are several."""
    if len(tables) == 1:
        return FORMS[form](tables[0])
    if form == "csv" and len({tuple(table.records[0]) for table in tables if table.records}) <= 1:
        records = [{"of": table.title, **record} for table in tables for record in table.records]
        return comma_separated(Table("", [], [], records=records))
    title = {"markdown": "**{}**\n\n", "latex": "% {}\n", "csv": "{}\n"}[form]
    escapes = _MARKDOWN if form == "markdown" else {}
    return "\n".join(title.format(_escaped(table.title, escapes)) + FORMS[form](table) for table in tables)


def _line(cells: object) -> str:
    return f"| {' | '.join(cells)} |"  # type: ignore[arg-type]


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _escaped(text: str, escapes: dict[str, str]) -> str:
    """Replace the letters that have a meaning of their own, and line ends and the like by blanks."""
    return "".join(escapes.get(letter, letter) for letter in _one_line(text))
