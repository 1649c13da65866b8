"""Tables for notebooks: small, without scripts or style sheets, readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from gpmt.report.palette import LIGHT

SHOWN = 60
"""Longer tables are shortened: as many rows less ten from their start, and the last ten."""
_LAST = 10
_BAR = 5
"""The length of the bar of the share 1, in em."""


@dataclass(frozen=True)
class Share:
    """A fraction as a cell: in percent, with a bar beside it."""

    value: float


def html_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str = "",
    notes: Sequence[str] = (),
    total: Sequence[object] | None = None,
) -> str:
    """Return a table as HTML; all texts are escaped.

    Args:
        heads: one for each column.
        rows: as many cells in each: numbers and shares, aligned to the right; others as texts, to the left.
        title: a line above the table.
        notes: lines below it.
        total: a row below all others.

    >>> html_table(["name"], [["a<b"]], title="One")
    '<div><p style="margin:.3em 0"><b>One</b></p><table style="border-collapse:collapse"><thead><tr><th \
style="text-align:left">name</th></tr></thead><tbody><tr><td style="text-align:left">a&lt;b</td></tr></tbody>\
</table></div>'
    """
    left = [_is_text([row[column] for row in rows]) for column in range(len(heads))]
    parts = [f'<p style="margin:.3em 0"><b>{escape(title)}</b></p>'] if title else []
    if rows:
        head = "".join(_cell("th", text, is_left) for text, is_left in zip(heads, left, strict=True))
        body = [_row(row, left) for row in rows]
        if len(body) > SHOWN:
            more = f'<td colspan="{len(heads)}" style="text-align:left">… {len(body) - SHOWN:,} more …</td>'
            body = [*body[: SHOWN - _LAST], f"<tr>{more}</tr>", *body[-_LAST:]]
        if total is not None:
            body.append(_row(total, left, "border-top:1px solid currentColor;font-weight:bold"))
        table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
        parts.append(f'<table style="border-collapse:collapse">{table}</table>')
    parts += [f'<p style="margin:.3em 0">{escape(note)}</p>' for note in notes]
    return f"<div>{''.join(parts)}</div>"


def _is_text(cells: Sequence[object]) -> bool:
    """Whether a column is aligned to the left: it has texts and no numbers."""
    return not any(isinstance(cell, (int, Share)) for cell in cells)


def _row(cells: Sequence[object], left: Sequence[bool], style: str = "") -> str:
    inner = "".join(_cell("td", cell, is_left) for cell, is_left in zip(cells, left, strict=True))
    return f'<tr style="{style}">{inner}</tr>' if style else f"<tr>{inner}</tr>"


def _cell(tag: str, cell: object, is_left: bool) -> str:
    return f'<{tag} style="text-align:{"left" if is_left else "right"}">{_text(cell)}</{tag}>'


def _text(cell: object) -> str:
    match cell:
        case Share(value):
            length = _BAR * min(max(value, 0), 1)
            bar = (
                f'<span style="display:inline-block;height:.7em;width:{length:.3g}em;'
                f'background:{LIGHT.kept}"></span>'
            )
            return (
                f'{100 * value:.3f}&nbsp;% <span style="display:inline-block;width:{_BAR}em;text-align:left">'
                f"{bar}</span>"
            )
        case int():
            return f"{cell:,}"
        case _:
            return escape(str(cell))
