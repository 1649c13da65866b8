"""Several runs of one experiment as a report tells of them: a sweep or a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Literal

TO_DO = "is to do"
"""What the text of a seed ends with that has neither finished nor failed."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds; the deviation is None for one seed."""

    mean: float
    std: float | None = None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Return the spread of the values that are known; None where none is.

        >>> Spread.of([0.5, None, 1.5]), Spread.of([0.5]), Spread.of([])
        (Spread(mean=1.0, std=0.7071067811865476), Spread(mean=0.5, std=None), None)
        """
        known = [value for value in values if value is not None]
        if not known:
            return None
        return cls(fmean(known), stdev(known) if len(known) > 1 else None)


@dataclass(frozen=True)
class Cell:
    """The finished runs that differ only in the seed.

    Attributes:
        method: the variant's name, such as "GP", without its floor.
        floor: the minimum that each layer keeps, as written; "" for none.
        setting: values of other axes than sparsity and seed, as "name=value, ..."; "" for none.
        asked: the sparsity asked for, as a fraction.
        seeds: those that are finished.
        sparsity: the share pruned as counted in the written files.
        dense, pruned, recalibrated, finetuned: top-1 accuracies as fractions; None where there is no such moment.
        finetuned_top5: top-5 likewise.
        macs: multiply-accumulates without zeros, as a share of the dense ones; None where they are not counted.
        latency_ms: as measured with the runtime; None where it is not.
        fewest: the smallest number of weights that a layer keeps, in any seed.
        dead: the most layers without any weight, in any seed.
        lost: seeds without a result: diverged, failed, to do or infeasible, as "seed 2 diverged".
    """

    method: str
    floor: str
    setting: str
    asked: float
    seeds: tuple[int, ...]
    sparsity: Spread | None = None
    dense: Spread | None = None
    pruned: Spread | None = None
    recalibrated: Spread | None = None
    finetuned: Spread | None = None
    finetuned_top5: Spread | None = None
    macs: float | None = None
    latency_ms: float | None = None
    fewest: int | None = None
    dead: int = 0
    lost: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name the line that the cell belongs to: method, floor and setting."""
        floor = f"{self.method} + {self.floor}" if self.floor else self.method
        return f"{floor} ({self.setting})" if self.setting else floor


@dataclass(frozen=True)
class Grid:
    """A sweep or a comparison.

    Attributes:
        kind, title, path: what it is, what it is called, and the path that was given.
        cells: in the order of the experiment; cells of one label make one curve.
        dense: top-1 of networks that are never pruned with the same budget (comparisons); else None.
        epochs: of training of each run, dense and fine-tuning together; None where runs differ in them.
        total, finished: numbers of runs.
        runs: the paths of the folders of those that are finished.
        versions, machine, commands: as of a `Subject`.
        missing, warnings: as of a `Subject`.
    """

    kind: Literal["sweep", "comparison"]
    title: str
    path: str
    cells: Sequence[Cell] = ()
    dense: Spread | None = None
    epochs: int | None = None
    total: int = 0
    finished: int = 0
    runs: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, object] = field(default_factory=dict)
    commands: Sequence[str] = ()
    missing: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def goes_on(self) -> bool:
        """Whether runs are left that have neither finished nor failed."""
        over = sum(not text.endswith(TO_DO) for cell in self.cells for text in cell.lost)
        return self.finished + over < self.total
