"""Draw the pictures of docs/concepts/: `python docs/drawings/draw.py` writes the SVG files beside this one.

Lines and words have the colour of the page's text where the site puts a drawing into the page, which it does
(docs/hooks/drawings.py), and a grey that is readable on white and on black where it is opened by itself.
"""

from __future__ import annotations

from pathlib import Path

from gpmt.report.palette import LIGHT

FOLDER = Path(__file__).parent
INK = "var(--md-typeset-color, #6e7781)"
KEPT, PRUNED, FLOOR, DEAD = LIGHT.kept, "#9aa3ac", LIGHT.floor, LIGHT.dead


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 13, bold: bool = False) -> str:
    """Return words."""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" fill="{INK}"{weight}>{words}</text>'


def box(x: float, y: float, width: float, height: float, fill: str, *, stroke: str = "none") -> str:
    """Return a rectangle."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="2" fill="{fill}" stroke="{stroke}"/>'


def line(x1: float, y1: float, x2: float, y2: float, *, colour: str = INK, dashed: bool = False) -> str:
    """Return a straight line."""
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    return (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}" stroke-width="1.5"{dash}/>'
    )


def arrow(x1: float, y: float, x2: float, *, colour: str = INK) -> str:
    """Return an arrow to the right."""
    head = f'<path d="M{x2 - 7:g},{y - 4:g} L{x2:g},{y:g} L{x2 - 7:g},{y + 4:g} Z" fill="{colour}"/>'
    return line(x1, y, x2 - 6, y, colour=colour) + head


def key(x: float, y: float, entries: list[tuple[str, str]]) -> list[str]:
    """Return the meaning of colours, in one row."""
    parts = []
    for colour, words in entries:
        parts += [box(x, y - 10, 12, 12, colour), text(x + 18, y, words, size=12)]
        x += 36 + 7 * len(words)
    return parts


def svg(title: str, width: int, height: int, parts: list[str]) -> str:
    """Return a drawing of these parts."""
    body = "\n  ".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{title}" font-family="system-ui, sans-serif">\n  {body}\n</svg>\n'
    )


LAYERS = {
    "conv1, 6 weights": [0.9, 0.8, 0.72, 0.6, 0.5, 0.42],
    "conv2, 12 weights": [0.95, 0.7, 0.62, 0.5, 0.44, 0.4, 0.33, 0.3, 0.25, 0.2, 0.15, 0.1],
    "conv3, 12 weights": [0.3, 0.28, 0.26, 0.24, 0.22, 0.2, 0.18, 0.16, 0.14, 0.12, 0.1, 0.08],
}
"""Magnitudes in each of three layers, the largest first."""


def threshold() -> str:
    """One threshold for all layers, and a layer that only its floor keeps alive."""
    parts, x, level, floor = [], 46.0, 0.45, 2
    bottom, scale = 190.0, 150.0
    for name, magnitudes in LAYERS.items():
        parts.append(text(x, 214, name))
        for index, size in enumerate(magnitudes):
            by_rank = size >= level
            fill = KEPT if by_rank else FLOOR if index < floor else PRUNED
            parts.append(box(x + 17 * index, bottom - scale * size, 13, scale * size, fill))
        x += 17 * len(magnitudes) + 34
    y = bottom - scale * level
    parts += [line(30, y, x - 26, y, dashed=True), text(x - 20, y + 5, "λ", size=16, bold=True)]
    entries = [(KEPT, "kept by the threshold"), (FLOOR, "kept by the floor, σ = 2"), (PRUNED, "pruned")]
    return svg(
        "Magnitudes of three layers with one threshold", 680, 250, [*parts, line(30, 190, x - 26, 190)]
    ).replace("</svg>", "  " + "\n  ".join(key(46, 240, entries)) + "\n</svg>")


def ties() -> str:
    """Weights with equal magnitudes: the first in order stay."""
    parts = []
    rows = [("conv1.weight", [0.7, 0.3, -0.3, 0.1]), ("conv2.weight", [-0.3, 0.9, 0.3, 0.2])]
    left = 2  # of the four weights at the threshold
    for row, (name, values) in enumerate(rows):
        y = 40 + 70 * row
        parts.append(text(20, y + 26, name))
        for column, value in enumerate(values):
            equal = abs(value) == 0.3
            kept = abs(value) > 0.3 or (equal and left > 0)
            left -= equal and kept
            x = 140 + 78 * column
            parts += [
                box(x, y, 68, 40, KEPT if kept and not equal else FLOOR if kept else "none", stroke=INK),
                f'<text x="{x + 34}" y="{y + 25}" text-anchor="middle" font-size="14" '
                f'fill="{"#ffffff" if kept and not equal else "#111111" if kept else INK}">{value:g}</text>',
            ]
    parts += [text(140, 24, "flat index 0"), text(452, 24, "3", anchor="end")]
    entries = [(KEPT, "above the threshold 0.3"), (FLOOR, "equal to it, and first in order")]
    return svg("Two tensors with four weights of equal magnitude", 480, 190, [*parts, *key(20, 180, entries)])


def blocks() -> str:
    """The floor of a tensor against the floors of its blocks."""
    kept = {
        "a floor a tensor": {"q": 0, "k": 9, "v": 9, "": 0},
        "a floor a block": {"q": 4, "k": 7, "v": 7, "": 0},
    }
    parts = []
    for column, (title, counts) in enumerate(kept.items()):
        left = 40 + 280 * column
        parts.append(text(left, 26, title, bold=True))
        for row, (name, count) in enumerate((name, n) for name, n in counts.items() if name):
            y = 40 + 48 * row
            parts += [box(left, y, 190, 42, "none", stroke=INK), text(left + 202, y + 26, name, size=15)]
            if not count:
                parts.append(text(left + 95, y + 26, "nothing is left", anchor="middle"))
            for index in range(count):
                x, shift = left + 8 + 20 * index, 8 + (index * 7 % 3) * 9
                parts.append(box(x, y + shift, 10, 10, FLOOR if name == "q" else KEPT))
    entries = [(KEPT, "kept by the threshold"), (FLOOR, "kept by the floor of the block")]
    return svg("Queries, keys and values in one tensor", 560, 220, [*parts, *key(40, 212, entries)])


def collapse() -> str:
    """A chain of layers that one empty layer cuts, the same with a shortcut, and with a floor."""
    rows = [
        ("no shortcut", False, DEAD, "no signal arrives: the outputs are constant, gradients are zero"),
        ("shortcut", True, DEAD, "the signal goes around the empty layer"),
        ("floor", False, FLOOR, "few weights, but a path for the signal and the gradients"),
    ]
    parts = []
    for row, (name, shortcut, middle, words) in enumerate(rows):
        y = 60 + 100 * row
        cut = middle == DEAD and not shortcut
        parts += [text(20, y + 5, name, bold=True), arrow(110, y, 150)]
        for column, fill in enumerate((KEPT, middle, KEPT)):
            x = 150 + 130 * column
            parts.append(
                box(x, y - 20, 80, 40, fill if fill != DEAD else "none", stroke=DEAD if fill == DEAD else INK)
            )
            if fill == DEAD:
                parts.append(text(x + 40, y + 5, "empty", anchor="middle"))
            after_cut = column == 1 and middle == DEAD
            if not (cut and column >= 1) and not after_cut:
                parts.append(arrow(x + 80, y, x + 130))
        if shortcut:
            parts += [
                f'<path d="M255,{y} C 262,{y - 52} 378,{y - 52} 396,{y - 3}" '
                f'fill="none" stroke="{INK}" stroke-width="1.5"/>',
                arrow(390, y, 410),
            ]
        parts.append(text(150, y + 40, words, size=12))
    return svg("Three chains of layers", 580, 320, parts)


def planes() -> str:
    """An image of one channel as a zero-padded plane, and the plane as one row of values."""
    parts, side, cell = [], 3, 30
    pitch = side + 1
    parts.append(text(20, 24, "a channel in its plane"))
    for row in range(side + 2):
        for column in range(pitch):
            inside = 1 <= row <= side and column < side
            x, y = 20 + cell * column, 36 + cell * row
            parts.append(box(x, y, cell - 3, cell - 3, KEPT if inside else "none", stroke=INK))
            if not inside:
                parts.append(text(x + 13, y + 18, "0", anchor="middle", size=12))
    parts.append(text(210, 24, "the same plane in memory: one row of values"))
    start = 210
    for index in range(20):
        row, column = divmod(index, pitch)
        inside = 1 <= row <= side and column < side
        x = start + 19 * index
        parts.append(box(x, 60, 16, 26, KEPT if inside else "none", stroke=INK))
    output, right, below = 4, 5, 8
    parts.append(text(start + 19 * output + 2, 112, "output pixel", anchor="end", size=12))
    for name, index, y in (
        ("", output, 112),
        ("+ 1, to its right", right, 152),
        ("+ pitch, below it", below, 132),
    ):
        x = start + 19 * index + 8
        parts += [line(x, 88, x, y, colour=FLOOR), text(x + 6, y, name, size=12)]
    parts.append(
        text(210, 190, "a tap of a convolution is a constant offset from the output's pixel;", size=12)
    )
    parts.append(text(210, 206, "the zero after a row pads its right and the next row's left", size=12))
    return svg("A plane and its values in memory", 600, 220, parts)


DRAWINGS = {
    "threshold": threshold,
    "ties": ties,
    "blocks": blocks,
    "collapse": collapse,
    "planes": planes,
}

if __name__ == "__main__":
    for name, draw in DRAWINGS.items():
        (FOLDER / f"{name}.svg").write_text(draw())
