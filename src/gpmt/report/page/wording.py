"""Numbers and lists as the page words them."""

from __future__ import annotations

from collections.abc import Sequence

from gpmt.report.content.grid import Spread

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(fraction: float, digits: int = 2) -> str:
    """Format a fraction; zeros at the end are left out, and what is not all or nothing never looks so.

    >>> percent(0.9), percent(0.949999, 4), percent(0.99999, 1), percent(1.0)
    ('90\\xa0%', '94.9999\\xa0%', '99.999\\xa0%', '100\\xa0%')
    """
    whole = fraction in (0, 1)
    while not whole and digits < 12 and round(100 * fraction, digits) in (0, 100):
        digits += 1
    number = f"{100 * fraction:.{digits}f}"
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number}\xa0%"


def points(difference: float) -> str:
    """Format a difference of two fractions in percentage points.

    >>> points(0.0123)
    '1.2 points'
    """
    return f"{100 * difference:.1f} points"


def spread(value: Spread | None) -> str:
    """Format an accuracy over seeds.

    >>> spread(Spread(0.9718, 0.0042)), spread(Spread(0.5)), spread(None)
    ('97.18 ± 0.42\\xa0%', '50.00\\xa0%', '–')
    """
    if value is None:
        return "–"
    deviation = "" if value.std is None else f" ± {100 * value.std:.2f}"
    return f"{100 * value.mean:.2f}{deviation}\xa0%"


def size(count: int) -> str:
    """Format a number of bytes in units of a thousand.

    >>> size(216), size(1_072_344)
    ('216\\xa0bytes', '1.07\\xa0MB')
    """
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g}\xa0{_UNITS[unit]}"


def seconds(value: float) -> str:
    """Format a time.

    >>> seconds(12.3), seconds(75), seconds(7321)
    ('12.3\\xa0s', '1 min 15 s', '2 h 2 min')
    """
    if value < 60:
        return f"{value:.3g}\xa0s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def count(number: int, noun: str, plural: str = "") -> str:
    """Name a number of things.

    >>> count(1, "layer"), count(1200, "layer"), count(0, "batch", "batches")
    ('1 layer', '1,200 layers', 'no batches')
    """
    many = plural or f"{noun}s"
    return f"no {many}" if number == 0 else f"{number:,} {noun if number == 1 else many}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Name the first of many.

    >>> listed(["a", "b"]), listed(["a", "b", "c", "d"], 2)
    ('a and b', 'a, b and 2 more')
    """
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def power_of_ten(exponent: int) -> str:
    """Write a power of ten as a label.

    >>> power_of_ten(-3), power_of_ten(0)
    ('10⁻³', '1')
    """
    return "1" if exponent == 0 else f"10{str(exponent).translate(_SUPERSCRIPTS)}"
