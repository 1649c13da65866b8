"""The table of one case of inference.py: what engines took for one network and batch size, and how they compare."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

import engines
import turns
from networks import NETWORKS, Pruning

TOLERANCE = 1e-4
"""How far outputs of float32 engines may be from those of PyTorch eager, as a share of the largest."""


@dataclass
class Contestant:
    """An engine with a network, and its times.

    Attributes:
        kind: which engine, a key of `engines.KINDS`.
        label: which sparsity, for engines to which it matters.
        difference: of its outputs, as a share of the largest.
        prepared: seconds that preparing it took.
        times: mean seconds of a call, one number a round.
    """

    kind: str
    label: str | None
    engine: engines.Engine
    difference: float
    prepared: float
    times: list[float] = field(default_factory=list)

    @property
    def title(self) -> str:
        title = engines.KINDS[self.kind].title
        return f"{title}, {self.label}" if self.label else title


@dataclass
class Case:
    """What one table shows: a network, a batch size, and one or more sparsities.

    Attributes:
        kept: the share of the prunable weights that is not zero, by sparsity.
        dead: sparsities at which the outputs do not depend on the inputs.
        unavailable: why engines are missing.
        compile_times: seconds of gpmt.compile, and the sparsity they are of.
        left_out, others: as `turns.Rounds` has them.
    """

    network: str
    batch: int
    prunings: list[Pruning]
    kept: dict[str, float] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    contestants: list[Contestant] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    compile_times: dict[str, Any] | None = None
    left_out: int = 0
    others: float | None = None

    @property
    def title(self) -> str:
        shape = "×".join(map(str, NETWORKS[self.network].shape))
        return f"{NETWORKS[self.network].title}, batch {self.batch} of {shape}"


def ratio(of: Contestant, to: Contestant) -> float:
    return statistics.median(own / other for own, other in zip(of.times, to.times, strict=True))


def summarise(case: Case) -> list[dict[str, Any]]:
    """Return a row for each contestant, times in seconds."""
    dense = [c for c in case.contestants if engines.KINDS[c.kind].exact and not engines.KINDS[c.kind].sparse]
    fastest = min(dense, key=lambda c: statistics.median(c.times), default=None)
    ours = [c for c in case.contestants if c.kind == "gpmt"]
    rows = []
    for contestant in case.contestants:
        lower, median, upper = statistics.quantiles(contestant.times, n=4, method="inclusive")
        rows.append(
            {
                "engine": contestant.kind,
                "title": contestant.title,
                "version": contestant.engine.version,
                "sparsity": contestant.label,
                "median_s": median,
                "quartiles_s": [lower, upper],
                "fastest_dense": contestant is fastest,
                "speedup_over_fastest_dense": fastest and ratio(fastest, contestant),
                "ratio_to_gpmt": {own.label: ratio(contestant, own) for own in ours},
                "difference": contestant.difference,
                "wrong": engines.KINDS[contestant.kind].exact and not contestant.difference <= TOLERANCE,
                "prepared_s": contestant.prepared,
                "times_s": contestant.times,
            }
        )
    return rows


def show(case: Case, rows: list[dict[str, Any]], allocation: str) -> None:
    kept = ", ".join(f"{label} keeps {share:.2%}" for label, share in case.kept.items())
    rounds = len(rows[0]["times_s"]) if rows else 0
    left_out = f" without {case.left_out} that were disturbed" if case.left_out else ""
    print(f"\n{case.title}; {allocation}: {kept}; {rounds} rounds{left_out}")
    labels = list(rows[0]["ratio_to_gpmt"]) if rows else []
    heads = "".join(f" {'× gpmt ' + label:>14}" for label in labels)
    print(f"{'':32} {'median ms':>10} {'quartiles':>17} {'speed-up':>9}{heads} {'difference':>11}")
    for row in rows:
        lower, upper = (f"{second * 1e3:.2f}" for second in row["quartiles_s"])
        faster = row["speedup_over_fastest_dense"]
        speedup = "" if faster is None else f"{faster:.2f}" + "*" * row["fastest_dense"]
        ratios = "".join(f" {row['ratio_to_gpmt'][label]:14.2f}" for label in labels)
        wrong = " WRONG" if row["wrong"] else ""
        print(
            f"{row['title']:32} {row['median_s'] * 1e3:10.2f} {lower + '–' + upper:>17} {speedup:>9}{ratios} "
            f"{row['difference']:11.1e}{wrong}"
        )
    print(
        "speed-up: over the fastest dense float32 engine (*); × gpmt: times as long as gpmt at that sparsity"
    )
    if (case.others or 0) > turns.QUIET:
        print(
            f"DISTURBED: other processes kept {case.others:.1f} cores busy; measure again when the machine is idle"
        )
    if case.dead:
        print(
            f"DEAD at {', '.join(case.dead)}: outputs do not depend on the images, so these figures mean nothing"
        )
    for name, reason in case.unavailable.items():
        print(f"{engines.KINDS[name].title}: not available: {reason}")
    if times := case.compile_times:
        print(
            f"gpmt.compile at {times['sparsity']}: {times['first']:.2f} s, from the cache {times['cached']:.2f} s"
        )
