"""The folder of a sweep: which files it writes, how it is resumed, and the lock that keeps other sweeps out."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from shutil import rmtree
from typing import Any

from gpmt.atomic import atomic_path
from gpmt.errors import CheckpointError, RecipeError
from gpmt.training.recipes.files import load_recipe
from gpmt.training.run.environment import versions
from gpmt.training.run.run_folder import RunFolder
from gpmt.training.sweep.grid import Grid, Point, identity


class SweepFolder:
    """``sweep.json`` (grid, commands, versions), ``recipe.yaml`` (the recipe of all runs), and a folder for each run.

    The runs read that copy of the recipe, so that all have the same one even if the user changes the original.
    Beside a run's folder is ``NAME.log`` while it is running, and if it failed. `kind` is what errors call it. With
    `partial` a grid may leave earlier runs out: they are kept, noted as ``left_out``, and taken up by a later grid.
    """

    def __init__(self, path: Path, kind: str = "sweep", *, partial: bool = False) -> None:
        self.path, self.kind, self.partial = path, kind, partial
        self.sweep = path / "sweep.json"
        self.recipe = path / "recipe.yaml"
        self._lock = path / ".lock"

    def run(self, point: Point) -> RunFolder:
        """Return the folder of a run."""
        return RunFolder(self.path / point.folder)

    def has_dense(self, point: Point) -> bool:
        """Whether a run has a dense network that others can take over."""
        run = self.run(point)
        return run.dense.exists() and (run.metrics.exists() or run.state.exists())

    def log(self, point: Point) -> Path:
        """Return the file that takes the output of a run."""
        return self.path / f"{point.folder}.log"

    def check(self, grid: Grid, *, resume: bool, force: bool) -> Grid:
        """Return `grid` with the folders that its runs have in a sweep to be resumed; nothing is changed.

        Raises RecipeError where the sweep must not start, or the earlier one has runs that `grid` must not lack.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RecipeError(
                f"{self.path} is a file, but a {self.kind} needs a folder; choose another with -o"
            )
        if resume and not force:
            if self.sweep.exists():
                return self._adopted(grid)
            state = (
                f"does not hold a {self.kind} (sweep.json is missing)"
                if self.path.exists()
                else "does not exist"
            )
            raise RecipeError(
                f"{self.path} {state}, so there is nothing to go on with; leave out --resume to start one, or give "
                f"the folder of the {self.kind} with -o"
            )
        if force or not self.path.exists():
            return grid
        if any(self.path.iterdir()):
            raise RecipeError(
                f"{self.path} is not empty; choose another folder with -o, go on with --resume, "
                f"or start the {self.kind} in it anew with --force"
            )
        return grid

    @contextmanager
    def locked(self) -> Iterator[tuple[int, ...]]:
        """Keep other sweeps out; yield the file descriptors that hold the lock.

        A run inherits them, so that the folder stays locked while a run of a killed sweep goes on.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"{self.path} cannot be used for a {self.kind} ({error.strerror}); choose another folder with -o"
            ) from error
        if sys.platform == "win32":
            yield ()
            return
        import fcntl

        with self._lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RecipeError(
                    f"{self.path} is in use by a {self.kind}, or by a run of a killed one; wait for it or end it"
                ) from None
            yield (file.fileno(),)

    def start(self, grid: Grid, *, force: bool, command: str) -> None:
        """Write the grid and the recipe; with `force` the runs of an earlier sweep are removed."""
        if force:
            self._clear(grid)
        earlier = self._read() if self.sweep.exists() else {"commands": []}
        left_out = self.left_out(grid)
        document = {
            "title": grid.base.title,
            "axes": grid.axes,
            "started": earlier.get("started", datetime.now().astimezone().isoformat(timespec="seconds")),
            "commands": [*earlier["commands"], command],
            "versions": versions(),
            "runs": [
                {
                    "folder": point.folder,
                    "variant": point.variant,
                    "values": point.values,
                    "overrides": point.overrides,
                }
                for point in grid.points
            ],
            **({"left_out": left_out} if left_out else {}),
        }
        with atomic_path(self.recipe) as temporary:
            temporary.write_text(grid.base.to_yaml(), encoding="utf-8")
        with atomic_path(self.sweep) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def left_out(self, grid: Grid) -> list[Mapping[str, Any]]:
        """Return the runs of earlier grids that are not in `grid`, as sweep.json has them; `grid` is checked."""
        names = {point.folder for point in grid.points}
        earlier = _runs(self._read()) if self.sweep.exists() else []
        return [run for run in earlier if run["folder"] not in names]

    def _adopted(self, grid: Grid) -> Grid:
        """Return `grid` with the folders of the runs that are there already."""
        identities = {point.identity for point in grid.points}
        titles = {point.title for point in grid.points}
        base = load_recipe(str(self.recipe))
        folders, lacking = {}, []
        for run in _runs(self._read()):
            recipe = load_recipe(str(self.recipe), run["overrides"])
            point = Point(run["variant"], run["values"], tuple(run["overrides"]), recipe, run["folder"])
            if point.identity in identities:
                folders[point.identity] = point.folder
            else:
                lacking.append(point)
        # What changes the runs of this grid would change those that are left out as well.
        same = self.partial and folders and identity(base) == identity(grid.base)
        for point in lacking:
            if not same or point.title in titles:
                raise RecipeError(
                    f"{self.path} was started with other settings: its run {point.title} is not one of this "
                    "grid; give the earlier values too, or choose another folder with -o"
                )
        points = tuple(replace(p, folder=folders.get(p.identity, p.folder)) for p in grid.points)
        names = [*(point.folder for point in points), *(point.folder for point in lacking)]
        if taken := {name for name in names if names.count(name) > 1}:
            raise RecipeError(
                f"{self.path} has another run in {min(taken)}, which this grid needs; choose another folder with -o"
            )
        return replace(grid, points=points)

    def _clear(self, grid: Grid) -> None:
        """Remove the runs of an earlier sweep, and what has the name of a run of `grid`; nothing else."""
        names = {point.folder for point in grid.points}
        with suppress(CheckpointError):  # nothing to read, or damaged
            names |= {run["folder"] for run in _runs(self._read())}
        for path in list(self.path.iterdir()):
            if path.name in names:
                rmtree(path)
            elif path.name.removesuffix(".log") in names:
                path.unlink()
        self.sweep.unlink(missing_ok=True)

    def _read(self) -> Mapping[str, Any]:
        try:
            document: Mapping[str, Any] = json.loads(self.sweep.read_text(encoding="utf-8"))
            list(document["commands"]), [(run["folder"], run["overrides"]) for run in _runs(document)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self.sweep} is damaged ({error}); start the {self.kind} anew with --force"
            ) from error
        return document


def _runs(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the runs that sweep.json names, those that are left out last."""
    return [*document["runs"], *document.get("left_out", [])]
