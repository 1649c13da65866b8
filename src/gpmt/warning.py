"""Warnings of gpmt: they point at the user's line, and come once where several processes train one network."""

from __future__ import annotations

import inspect
import sys
import warnings

_INSIDE = ("gpmt", "torch")


class GpmtWarning(UserWarning):
    """What was asked for is done, but may not be what was meant; the command line prints it on stderr."""


def warn(text: str) -> None:
    """Issue a `GpmtWarning` at the innermost line that is neither gpmt's nor PyTorch's, on the first rank only."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized() and distributed.get_rank():
        return
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, GpmtWarning, stacklevel=level)
