"""What a command says of its work on stderr: a status on a terminal, with --verbose a line for each step."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

verbose = False
"""Whether the command that runs was given --verbose; each starts without."""


Tell = Callable[[str], None]
"""Shows how far a step is, in place of what was shown before."""


def set_verbose(wanted: bool) -> bool:
    """Note that --verbose was given; the callback of the option."""
    global verbose
    verbose = verbose or wanted
    return wanted


@contextmanager
def working(what: str, *, quiet: bool = False) -> Iterator[Tell]:
    """Show on stderr what the block does while it runs, if that is a terminal; with --verbose, how long it took.

    The block gets a function that shows how far it is.
    """
    start = time.monotonic()
    if quiet or verbose:
        yield lambda text: None
    else:
        from gpmt.terminal.tables import console

        with console(stderr=True).status(what) as status:
            yield status.update
    if verbose:
        print(f"{what}: {time.monotonic() - start:.1f} s", file=sys.stderr)


def show_traceback() -> None:
    """Print where the error that is being handled was raised, if --verbose was given."""
    if verbose:
        traceback.print_exc()
