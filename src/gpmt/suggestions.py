"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable

_ALIKE = 0.65
"""Share of letters that names have in common, in order; densenet and resnet20 have less."""


def close_names(name: str, known: Iterable[str], *, count: int = 3) -> list[str]:
    """Return the known names that are much like `name`, the nearest first.

    >>> close_names("resnet21", ["lenet5-caffe", "resnet20"])
    ['resnet20']
    >>> close_names("densenet", ["lenet5-caffe", "resnet20"])
    []
    """
    return difflib.get_close_matches(name, list(known), n=count, cutoff=_ALIKE)


def did_you_mean(name: str, known: Iterable[str], *, count: int = 3) -> str:
    """Return ``did you mean A or B?`` for the known names nearest to `name`, else all the known names.

    >>> did_you_mean("resnet21", ["resnet20", "lenet5-caffe"])
    'did you mean resnet20?'
    >>> did_you_mean("vgg", ["resnet20", "lenet5-caffe"])
    'known are lenet5-caffe, resnet20'
    """
    names = sorted(known)
    if close := close_names(name, names, count=count):
        return f"did you mean {' or '.join(close)}?"
    return f"known are {', '.join(names)}"
