"""Integer arithmetic that Python has no name for."""


def ceil_div(number: int, divisor: int) -> int:
    """Return number / divisor, rounded up.

    >>> ceil_div(7, 3), ceil_div(6, 3)
    (3, 2)
    """
    return -(-number // divisor)


def round_up(number: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is not below `number`.

    >>> round_up(7, 3), round_up(6, 3)
    (9, 6)
    """
    return ceil_div(number, multiple) * multiple
