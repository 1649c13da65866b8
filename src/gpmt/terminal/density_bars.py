"""Densities as bars and as a curve over the depth of the network, on a logarithmic scale.

Sparse networks have layers of 0.05 % beside layers of 50 %; on a linear scale those would all look empty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from rich.console import Console

LEAST = 1e-4
"""The density at the left end of the scale; the right end is 1."""
WIDTH = 16
SCALE = ".01%   1%   100%"
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"
_FLOOR, _DEAD = "│", "×"
_ASCII = str.maketrans({**dict.fromkeys("▏▎▍", " "), **dict.fromkeys("▌▋▊▉█", "#"), _FLOOR: "|", _DEAD: "x"})
_ASCII_HEIGHTS = str.maketrans(dict(zip(_HEIGHTS, "_..--==#", strict=True)) | {_DEAD: "x"})


def position(density: float) -> float:
    """Return where a density is on the scale, from 0 (at most `LEAST`) to 1.

    >>> [round(position(density), 3) for density in (1, 0.01, 0.0001, 0)]
    [1.0, 0.5, 0.0, 0.0]
    """
    return 1 - math.log(max(density, LEAST)) / math.log(LEAST)


def bar(density: float, floor: float | None = None, *, blocks: bool = True) -> str:
    """Return a bar of at most `WIDTH` cells, with a line at the floor, a share of the block; × where nothing is kept.

    >>> bar(0.01), bar(0.5, 0.01), bar(0.0, 0.01)
    ('████████', '████████│█████▊', '×       │')
    """
    filled = round(position(density) * 8 * WIDTH)
    cells = list("█" * (filled // 8) + _EIGHTHS[filled % 8].strip())
    if density > 0 and not cells:
        cells = [_EIGHTHS[1]]
    elif density == 0:
        cells = [_DEAD]
    if floor is not None and floor > 0:
        place = min(int(position(floor) * WIDTH), WIDTH - 1)
        cells += [" "] * (place + 1 - len(cells))
        cells[place] = _FLOOR
    text = "".join(cells)
    return text if blocks else text.translate(_ASCII).rstrip()


def curve(densities: Sequence[float], width: int, *, blocks: bool = True) -> str:
    """Return a character for each density, or for the mean of a few where there are more than `width`; × for zeros.

    >>> curve([1, 0.1, 0.01, 0.001, 0], 5)
    '█▇▅▃×'
    """
    count = min(len(densities), max(width, 1))
    edges = [len(densities) * place // count for place in range(count + 1)] if count else []
    groups = [densities[start:end] for start, end in pairwise(edges)]
    text = "".join(_height(sum(group) / len(group)) if any(group) else _DEAD for group in groups)
    return text if blocks else text.translate(_ASCII_HEIGHTS)


def shows_blocks(out: Console) -> bool:
    """Whether a console can print the characters of bars."""
    try:
        (_EIGHTHS + _HEIGHTS + _FLOOR + _DEAD).encode(out.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _height(density: float) -> str:
    return _HEIGHTS[min(int(position(density) * len(_HEIGHTS)), len(_HEIGHTS) - 1)]
