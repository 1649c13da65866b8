"""The palette can be told apart by everyone: distances of colours as the colour-blind see them, and contrasts."""

from itertools import combinations

import numpy as np
import pytest

from gpmt.report.palette import DARK, LIGHT, style

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009),
# severity 1, on linear RGB.
SIGHT = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b* of a linear RGB colour, under D65."""
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.9505, 1, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(first: str, second: str, sight: str) -> float:
    return float(np.linalg.norm(lab(SIGHT[sight] @ linear(first)) - lab(SIGHT[sight] @ linear(second))))


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of WCAG 2."""
    low, high = sorted(TO_XYZ[1] @ linear(colour) for colour in (first, second))
    return float((high + 0.05) / (low + 0.05))


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_series_are_told_apart(palette, sight):
    assert min(distance(*pair, sight) for pair in combinations(palette.series, 2)) > 11


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_what_is_drawn_side_by_side_is_told_apart(palette, sight):
    together = [
        (palette.kept, palette.pruned),
        (palette.kept, palette.floor),
        (palette.kept, palette.threshold),
        (palette.kept, palette.dead),
        (palette.pruned, palette.dead),
        (palette.pruned, palette.threshold),
        (palette.event, palette.series[0]),
    ]
    assert min(distance(*pair, sight) for pair in together) > 17


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_words_and_lines_stand_out(palette):
    assert contrast(palette.text, palette.background) > 12
    assert contrast(palette.muted, palette.background) > 4.5
    for colour in (palette.kept, palette.threshold, palette.dense, palette.dead, palette.event):
        assert contrast(colour, palette.background) > 3
    assert all(contrast(colour, palette.background) > 3 for colour in palette.series[:4])
    assert all(contrast(colour, palette.background) > 2.2 for colour in (*palette.series, palette.floor))


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_no_two_of_36_series_look_the_same(palette):
    styles = [style(index, palette) for index in range(36)]
    assert len({(each.colour, each.dash) for each in styles}) == 36
    assert len({(each.colour, each.marker) for each in styles}) == 36


def test_colour_is_not_needed_to_tell_six_series_apart():
    styles = [style(index) for index in range(6)]
    assert len({each.dash for each in styles}) == len({each.marker for each in styles}) == 6
