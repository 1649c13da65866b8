"""Reports from the files of runs, plans, sweeps, comparisons and weights; what each path is, its content says."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from gpmt.errors import GpmtError, ReportError
from gpmt.formats.run_result import RECIPE, is_run
from gpmt.report.content.bench_file import Bench, bench_of, is_bench
from gpmt.report.content.comparison_folder import COMPARISON, is_comparison, read_comparison, read_table
from gpmt.report.content.documents import Document, read_document
from gpmt.report.content.grid import Grid
from gpmt.report.content.grid_folder import METRICS, SWEEP, read_sweep
from gpmt.report.content.plan_file import is_plan, read_plan
from gpmt.report.content.report import Report
from gpmt.report.content.run_folder import read_run
from gpmt.report.content.subject import Subject
from gpmt.report.content.weights_file import read_weights

_OWN_FILES = {METRICS, SWEEP, COMPARISON, RECIPE, "results.json", "history.csv"}
"""Files of runs and sweeps that stand for their folder."""
_HEAD = 1 << 12


def read_report(paths: Sequence[str | os.PathLike[str]], *, title: str | None = None) -> Report:
    """Read runs, plans, sweeps, comparisons and files of weights, and tell of them together.

    What cannot be read is a sentence in `Report.problems`, and the rest is told. Files are read only; no network is
    made and nothing is trained.

    Args:
        paths: folders of runs (`gpmt run`), finished or not, of sweeps and comparisons, or the comparison.json of
            one; plans, as `Plan.save` and ``gpmt plan --json`` write them; weights of any
            tool that `gpmt.load` knows, files or folders; and the output of ``gpmt bench --json``, which goes to the
            run or file that it is of.
        title: of the report; by default that of what is told, or how many there are.

    Raises:
        ReportError: no path, or none that can be read.

    >>> import tempfile, gpmt, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     gpmt.plan({"fc.weight": torch.rand(10, 10)}, sparsity=0.9).save(f"{folder}/plan.json")
    ...     report = read_report([f"{folder}/plan.json"])
    >>> [(one.kind, one.asked, one.numel, one.kept) for one in report.subjects]
    [('plan', '90 %', 100, 10)]
    """
    if not paths:
        raise ReportError("a report needs a run, a plan, a sweep or weights; give at least one path")
    reader = _Reader()
    for path in paths:
        reader.read(Path(path))
    reader.give_latencies()
    if not (reader.subjects or reader.grids):
        raise ReportError(" ".join(f"{problem}." for problem in reader.problems).rstrip("."))
    return Report(
        title=title or reader.title(),
        subjects=reader.subjects,
        grids=reader.grids,
        problems=[*reader.problems, *mixed(reader.subjects)],
        made=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def mixed(subjects: Sequence[Subject]) -> list[str]:
    """Say in what runs differ so that their accuracies do not compare: networks and data.

    >>> runs = [Subject("run", name, name, recipe={"model": name}) for name in ("resnet20", "resnet32")]
    >>> mixed(runs)
    ['the runs are of several networks (resnet20, resnet32), so that their accuracies do not compare; \
report them one by one']
    """
    recipes = [Document(subject.recipe) for subject in subjects if subject.kind == "run"]
    found = {
        "networks": [recipe.text("model") for recipe in recipes],
        "data sets": [recipe.object("data").text("name") for recipe in recipes],
    }
    return [
        f"the runs are of several {what} ({', '.join(names)}), so that their accuracies do not compare; report them "
        "one by one"
        for what, values in found.items()
        if len(names := [name for name in dict.fromkeys(values) if name]) > 1
    ]


@dataclass
class _Reader:
    """What was read so far, in order."""

    subjects: list[Subject] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    benches: list[tuple[Path, Bench]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def read(self, path: Path) -> None:
        """Read one path; what is wrong with it is a problem."""
        try:
            self._read(path)
        except GpmtError as error:
            self.problems.append(str(error))
        except OSError as error:
            self.problems.append(f"{path} cannot be read ({error.strerror or error}); check the path")

    def _read(self, path: Path) -> None:
        if not path.exists():
            raise ReportError(f"{path} does not exist; check the path")
        if path.is_file() and path.name in _OWN_FILES and _folder_reader(path.parent) is not None:
            path = path.parent
        if path.is_dir():
            self._read_folder(path)
        elif (document := _json(path)) is None:
            self.subjects.append(read_weights(path))
        elif is_plan(document):
            self.subjects.append(read_plan(path, document))
        elif is_comparison(document):
            self.grids.append(read_table(path, document))
        elif is_bench(document):
            self.benches.append((path, bench_of(document, path)))
        else:
            raise ReportError(
                f"{path} is JSON, but neither a plan, nor a comparison.json, nor the output of gpmt bench --json; "
                "give a plan, weights, or the folder of a run, sweep or comparison"
            )

    def _read_folder(self, path: Path) -> None:
        if (read := _folder_reader(path)) is not None:
            read(self, path)
            return
        if (path / COMPARISON).is_file():
            self._read(path / COMPARISON)
            return
        inner = sorted(one.name for one in path.iterdir() if one.is_dir() and _folder_reader(one) is not None)
        if inner:
            raise ReportError(
                f"{path} is no run, but holds {len(inner):,}, such as {inner[0]}; give these: {path}/*"
            )
        self.subjects.append(read_weights(path))

    def read_run(self, path: Path) -> None:
        """Read the folder of a run."""
        self.subjects.append(read_run(path, self.problems))

    def read_sweep(self, path: Path) -> None:
        """Read the folder of a sweep."""
        self.grids.append(read_sweep(path, self.problems))

    def read_comparison(self, path: Path) -> None:
        """Read the folder of a comparison."""
        self.grids.append(read_comparison(path, self.problems))

    def give_latencies(self) -> None:
        """Give each measurement to the subject whose weights it is of."""
        for path, bench in self.benches:
            owners = [index for index, one in enumerate(self.subjects) if bench.is_of(Path(one.path))]
            if not owners:
                self.problems.append(
                    f"{path} is of {bench.weights}, which is not in this report; give that too, or leave the file out"
                )
            for index in owners:
                subject = self.subjects[index]
                missing = [text for text in subject.missing if not text.startswith("latency:")]
                self.subjects[index] = replace(subject, latency=bench.latency, missing=missing)

    def title(self) -> str:
        """Return the title of the only thing that is told, or how many there are."""
        names = [*(one.title for one in self.subjects), *(one.title for one in self.grids)]
        if len(set(names)) == 1:
            return names[0]
        return f"{names[0]} and {len(names) - 1} more"


def _folder_reader(path: Path) -> Callable[[_Reader, Path], None] | None:
    """Return what reads a folder that gpmt wrote; None for any other."""
    if (path / SWEEP).is_file():
        return _Reader.read_comparison if (path / COMPARISON).is_file() else _Reader.read_sweep
    if is_run(path) or (path / METRICS).is_file():
        return _Reader.read_run
    return None


def _json(path: Path) -> Document | None:
    """Return what a file of JSON holds; None for a file of another kind, and for the index of a sharded network."""
    with path.open("rb") as file:
        head = file.read(_HEAD).lstrip()
    if not head.startswith(b"{") and path.suffix.lower() != ".json":
        return None
    if path.name.endswith(".index.json"):
        return None
    return read_document(path, "give a plan, a run's folder, a sweep or weights")
