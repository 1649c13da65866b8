"""What a command says of its work on stderr: a status on a terminal, with --verbose a line for each step."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

verbose = False
"""Whether the command that runs was given --verbose; each starts without."""


def set_verbose(wanted: bool) -> bool:
    """Note that --verbose was given; the callback of the option."""
    global verbose
    verbose = verbose or wanted
    return wanted


@contextmanager
def working(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Show on stderr what the block does while it runs, if that is a terminal; with --verbose, how long it took."""
    start = time.monotonic()
    if quiet or verbose:
        yield
    else:
        from gpmt.report.tables import console

        with console(stderr=True).status(what):
            yield
    if verbose:
        print(f"{what}: {time.monotonic() - start:.1f} s", file=sys.stderr)


def show_traceback() -> None:
    """Print where the error that is being handled was raised, if --verbose was given."""
    if verbose:
        traceback.print_exc()
