"""What ``gpmt sensitivity`` is asked for, and how it says how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gpmt.cli import narration
from gpmt.cli.calibration import Batches, Calibration
from gpmt.cli.narration import Tell
from gpmt.core.budget.budget import Ratio, parse_sparsity
from gpmt.errors import CalibrationError
from gpmt.terminal.durations import duration

if TYPE_CHECKING:
    from gpmt.sensitivities.result import Sensitivity

IMAGES, RECALIBRATION = 1000, 256
"""Samples that the loss is the mean of, and as many of them as batch normalisation is recalibrated on."""


@dataclass(frozen=True)
class Request:
    """What is asked for; None stands for what is usual, or for what the file says that is gone on with."""

    data: str | None
    images: int | None
    batch_size: int | None
    sequence_length: int | None
    model: str | None
    sparsities: str | None
    recalibrate: bool | None

    def check(self, *, going_on: bool) -> None:
        """Raise `GpmtError` for what cannot be right for any network; data may be missing where a file names them."""
        self.fractions()
        if self.data is not None:
            self.calibration().check()
        elif not going_on:
            raise CalibrationError(
                "there are no data to measure on; give --data, such as cifar10:FOLDER, or text.txt for a language "
                "model"
            )

    def fractions(self) -> Sequence[Ratio]:
        """Return the sparsities."""
        if self.sparsities is None:
            from gpmt.sensitivities.measure import SPARSITIES

            return SPARSITIES
        return [parse_sparsity(text.strip()) for text in self.sparsities.split(",")]

    def calibration(self) -> Calibration:
        """Return the data."""
        assert self.data is not None
        images = IMAGES if self.images is None else self.images
        return Calibration(self.data, images, self.batch_size, self.sequence_length, "--data")

    def recalibration(self, samples: Sequence[Any]) -> bool | Sequence[Any]:
        """Return the batches that batch normalisation is recalibrated on, none of which is smaller than the first."""
        if self.recalibrate is False:
            return False
        chosen: list[Any] = []
        for batch in samples:
            if chosen and (
                Batches(chosen).samples >= RECALIBRATION
                or Batches([batch]).samples < Batches(chosen[:1]).samples
            ):
                break
            chosen.append(batch)
        return chosen

    def settings(self) -> dict[str, str | int | None]:
        """Return what the result is to say of the data and the network, as errors name it."""
        return {
            "data": self.data,
            "number of samples": IMAGES if self.images is None else self.images,
            "batch size": self.batch_size,
            "sequence length": self.sequence_length,
            "network": self.model,
        }

    def going_on_with(self, before: Sensitivity) -> Request:
        """Return the request with what it leaves open as it was before."""
        settings = before.settings
        data, model = (_text(settings.get(name)) for name in ("data", "network"))
        images, batch_size, sequence_length = (
            _number(settings.get(name)) for name in ("number of samples", "batch size", "sequence length")
        )
        return Request(
            self.data or data,
            self.images or images,
            self.batch_size or batch_size,
            self.sequence_length or sequence_length,
            self.model or _known(model),
            self.sparsities or ",".join(map(str, before.sparsities)),
            before.recalibrated if self.recalibrate is None else self.recalibrate,
        )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _known(model: str | None) -> str | None:
    """Return the name of a network unless a file would choose code to run by it."""
    from gpmt.training.models import runs_own_code

    return None if model is None or runs_own_code(model) else model


class Progress:
    """Shows how far a measurement is, and writes what there is after each block."""

    def __init__(self, out: Path | None, tell: Tell, *, quiet: bool) -> None:
        self._out, self._tell, self._quiet = out, tell, quiet
        self._start, self._first, self._left = time.monotonic(), 0, ""
        self._saved: Sensitivity | None = None

    def cell(self, name: str, sparsity: Fraction, number: int, count: int) -> None:
        """Tell of the cell that is measured next."""
        self._first = self._first or number
        done, seconds = number - self._first, time.monotonic() - self._start
        self._left = f", {duration(seconds / done * (count - number + 1))} left" if done else ""
        self._tell(f"{name} at {100 * float(sparsity):g}%: {number:,} of {count:,}{self._left}")

    def block(self, found: Sensitivity) -> None:
        """Write what there is."""
        if self._out is not None:
            found.save(self._out)
            self._saved = found
        if narration.verbose and not self._quiet:
            done, count = len(found.curves), len(found.blocks)
            print(f"{found.curves[-1].name}: {done:,} of {count:,} blocks{self._left}", file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After an interrupt, say what is kept."""
        if kind is KeyboardInterrupt and self._saved is not None:
            done, count = len(self._saved.curves), len(self._saved.blocks)
            print(f"{done:,} of {count:,} blocks are in {self._out}; go on with --resume", file=sys.stderr)
