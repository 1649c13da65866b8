"""Reporting progress: bars on a terminal, lines elsewhere, and every line in a log file."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from gpmt.terminal.tables import console

REDRAW_SECONDS = 0.5
"""How often the rate and the loss are shown; reading a loss makes the program wait for a GPU."""


class Advance(Protocol):
    """The function that counts progress."""

    def __call__(self, items: int, loss: Tensor | None = None) -> None:
        """Count `items` more as done, the last of them with this loss."""


class Reporter:
    """Writes lines to standard error and to a log file, and draws progress bars on a terminal.

    With `silent`, as in all processes but the first, it reports nothing; with `quiet` it writes to the log alone.
    """

    def __init__(self, *, silent: bool = False, quiet: bool = False) -> None:
        self.console = console(stderr=True)
        self.console.quiet = silent or quiet
        self.silent = silent
        self.log: Path | None = None

    def line(self, text: str) -> None:
        """Write one line, which a terminal wraps at words, with the time of day in the log."""
        self.console.print(text)
        self.note(text)

    def note(self, text: str) -> None:
        """Write one line to the log alone, where the command line says the same in its own words."""
        if self.log is not None and not self.silent:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S} {text}\n")

    @contextmanager
    def bar(self, description: str, total: int) -> Iterator[Advance]:
        """Show progress over `total` items, with rate and remaining time, while the block runs."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
        )
        shown = self.console.is_terminal and not self.console.quiet
        with Progress(*columns, console=self.console, transient=True, disable=not shown) as progress:
            task = progress.add_task(description, total=total, speed="")
            start = drawn = time.monotonic()
            done = 0

            def advance(items: int, loss: Tensor | None = None) -> None:
                nonlocal done, drawn
                done += items
                now = time.monotonic()
                if shown and now - drawn > REDRAW_SECONDS:
                    drawn = now
                    text = "" if loss is None else f"loss {loss.item():.3f}, "
                    progress.update(task, completed=done, speed=f"{text}{done / (now - start):,.0f} images/s")

            yield advance

    def track(self, items: Iterable[Tensor], description: str, total: int) -> Iterator[Tensor]:
        """Yield `items` and show their progress."""
        self.line(description)
        with self.bar(description, total) as advance:
            for item in items:
                yield item
                advance(1)
