"""What a run says while it works: bars on a terminal, lines elsewhere, and every line in a log file."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor


class Reporter:
    """Writes lines to standard error and to a log file, and draws progress bars on a terminal.

    Processes other than the first report nothing.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self.console = Console(stderr=True, quiet=silent, highlight=False, soft_wrap=True)
        self.log: Path | None = None

    def line(self, text: str) -> None:
        """Write one line, with the time of day in the log."""
        self.console.print(text, markup=False)
        if self.log is not None and not self.console.quiet:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S} {text}\n")

    @contextmanager
    def bar(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show progress over `total` items with their rate; yields a function to be told of items done."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns, console=self.console, transient=True, disable=not sys.stderr.isatty()
        ) as progress:
            task = progress.add_task(description, total=total, rate="")
            start, done = time.monotonic(), 0

            def advance(items: int) -> None:
                nonlocal done
                done += items
                rate = done / max(time.monotonic() - start, 1e-9)
                progress.update(task, completed=done, rate=f"{rate:,.0f} images/s")

            yield advance

    def track(self, items: Iterable[Tensor], description: str, total: int) -> Iterator[Tensor]:
        """Pass `items` on under a progress bar."""
        self.line(description)
        with self.bar(description, total) as advance:
            for item in items:
                yield item
                advance(1)
