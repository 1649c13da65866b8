"""The sentence for a name that is not known."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], *, count: int = 3) -> str:
    """Return ``did you mean A or B?`` for the known names nearest to `name`, else all the known names.

    >>> did_you_mean("resnet21", ["resnet20", "lenet5-caffe"])
    'did you mean resnet20?'
    >>> did_you_mean("vgg", ["resnet20", "lenet5-caffe"])
    'known are lenet5-caffe, resnet20'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=count)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known are {', '.join(names)}"
