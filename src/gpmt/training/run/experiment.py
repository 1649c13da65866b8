"""An experiment: dense training, then pruning and fine-tuning, each resumable after every epoch."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from gpmt.errors import RecipeError
from gpmt.planning.decide import decide
from gpmt.training.recipes.schema import Recipe
from gpmt.training.run.devices import prepare
from gpmt.training.run.phase import PHASES, Phase
from gpmt.training.run.progress import Reporter
from gpmt.training.run.pruning import check_pruning
from gpmt.training.run.run_folder import RunFolder
from gpmt.training.run.setup import Setup, load_source, new_network
from gpmt.training.run.states import load_model_state
from gpmt.training.run.time_budget import TimeBudget
from gpmt.training.run.trackers import check_trackers
from gpmt.training.weights import load_weights


class Experiment:
    """A recipe being carried out in a run folder.

    An error in the recipe, the data, the checkpoint or the sparsity is raised when it is made.

    Attributes:
        setup: what the phases work with.
        progress: one phrase for how far the run got.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        accelerator: Accelerator,
        reporter: Reporter,
        time_budget: TimeBudget,
        *,
        state: dict[str, Any] | None,
        dense_from: Path | None,
    ) -> None:
        check_trackers(recipe)
        source = load_source(recipe, accelerator, reporter)
        network = new_network(recipe, source)
        record = state["record"] if state else _new_record()
        if state is None and dense_from is not None:
            record.update(_dense_record(RunFolder(dense_from), recipe))
            load_weights(network, RunFolder(dense_from).dense, name=recipe.model)
        elif state is None and recipe.dense.checkpoint is not None:
            load_weights(network, recipe.dense.checkpoint.expanduser(), name=recipe.model)
        self._state, self._phase = state, None if state is None else state["phase"]
        self._has_dense = state is None and dense_from is not None
        self._current: Phase | None = None
        self.setup = Setup(recipe, folder, accelerator, reporter, time_budget, source, network, record)
        # What cannot be met fails now, not after the dense training.
        decide(network, [recipe.prune.sparsity], **self.setup.pruning)
        check_pruning(self.setup)
        self.setup.model = prepare(network, accelerator, compiled=recipe.compute.compile)

    @property
    def progress(self) -> str:
        """How far the run got."""
        return "before the first epoch" if self._current is None else self._current.progress

    def execute(self) -> None:
        """Run the phases and write the weights and masks."""
        setup, folder = self.setup, self.setup.folder
        if self._phase in (None, "dense"):
            self._make_dense()
        setup.accelerator.wait_for_everyone()  # for dense.pt, which may be the teacher in fine-tuning
        finetune = self._start_phase("finetune")
        finetune.train()
        finetune.finish()
        finetune.write(folder.model)
        pruner = finetune.pruner
        if pruner is not None and pruner.masks is not None and setup.accelerator.is_main_process:
            pruner.masks.save(folder.masks)

    def _make_dense(self) -> None:
        """Train the dense network, if it is to be trained, and write it."""
        dense = self._start_phase("dense")
        if not self._has_dense:
            dense.train()
        dense.write(self.setup.folder.dense)
        if dense.average is not None:
            load_model_state(self.setup.network, dense.average.module.state_dict())
        dense.release()

    def _start_phase(self, name: str) -> Phase:
        state = self._state if self._phase == name else None
        self._current = Phase(self.setup, name, getattr(self.setup.recipe, name), state)
        return self._current


def _new_record() -> dict[str, Any]:
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commands": [],
        "dense_from": None,
        "plan": None,
        "change": None,
        "learning_rate": None,
        "best": None,
        "history": {phase: [] for phase in PHASES},
        "seconds": {"dense": 0.0, "prune": 0.0, "finetune": 0.0},
    }


def _dense_record(run: RunFolder, recipe: Recipe) -> dict[str, Any]:
    """Return what another run recorded of its dense phase, which must have been the same as this recipe's."""
    other = run.settings()
    different = [
        section
        for section in ("model", "seed", "compute", "dense")
        if getattr(other, section) != getattr(recipe, section)
    ]
    if other.data.model_copy(update=_IGNORED_DATA) != recipe.data.model_copy(update=_IGNORED_DATA):
        different.append("data")
    if different:
        raise RecipeError(
            f"the dense network of {run.path} comes from other settings ({', '.join(different)} differ); "
            "give a run with the same ones, or leave out --dense-from"
        )
    # A run may finish while it is read here, which removes its state.
    record = run.finished() or (run.load_state() or {}).get("record") or run.finished()
    if not isinstance(record, Mapping) or not run.dense.exists():
        raise RecipeError(f"{run.path} has no dense network yet; wait until its dense phase is done")
    seconds = {"dense": record["seconds"]["dense"], "prune": 0.0, "finetune": 0.0}
    history = {"dense": record["history"]["dense"], "finetune": []}
    return {"dense_from": str(run.path), "seconds": seconds, "history": history}


_IGNORED_DATA = {"root": None, "workers": None}
"""Settings of the data that do not change the result."""
