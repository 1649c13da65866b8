"""What a run would do: its checks, its plan and its files, without training or writing anything."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpmt.planning.decide import decide
from gpmt.planning.plan import Plan
from gpmt.training.recipes.schema import Recipe
from gpmt.training.run.devices import make_accelerator
from gpmt.training.run.experiment import Experiment
from gpmt.training.run.progress import Reporter
from gpmt.training.run.run_folder import RunFolder
from gpmt.training.run.time_budget import TimeBudget


@dataclass(frozen=True)
class Preview:
    """What a run would do.

    Attributes:
        recipe: its settings.
        plan: which weights it would prune now.
        weights_known: whether these are the weights that would be pruned; where training comes first, the totals
            hold, and the share of each tensor follows from the training.
        dense: how the dense network comes about, in words.
        files: the files that it would write.
    """

    recipe: Recipe
    plan: Plan
    weights_known: bool
    dense: str
    files: tuple[Path, ...]

    def lines(self) -> list[str]:
        """Describe the phases in words."""
        recipe, prune = self.recipe, self.recipe.prune
        what = f"{self.plan.numel:,} {self.plan.unit} in {len(self.plan.tensors)} tensors"
        return [
            recipe.title,
            *([recipe.budget_split] if recipe.budget_split else []),
            f"dense network: {recipe.model} on {recipe.data.name}, {self.dense}",
            f"pruning: {prune.described}, to {float(self.plan.sparsity):.4%} of {what}",
            f"fine-tuning: {_epochs(recipe.finetune.epochs)}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return what would be done as plain values, ready for JSON."""
        return {
            "title": self.recipe.title,
            "settings": self.recipe.model_dump(mode="json"),
            "weights_known": self.weights_known,
            "would_write": [str(path) for path in self.files],
            "plan": self.plan.to_dict(),
        }


def preview(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    force: bool = False,
    dense_from: Path | None = None,
    tensorboard: bool = False,
) -> Preview:
    """Tell what `run` would do with these arguments; raise the errors that it would raise before it starts."""
    folder = RunFolder(out)
    folder.check(recipe, resume=resume, force=force)
    accelerator = make_accelerator(recipe)
    reporter = Reporter(silent=not accelerator.is_main_process, quiet=True)
    experiment = Experiment(
        recipe, folder, accelerator, reporter, TimeBudget(), state=None, dense_from=dense_from
    )
    setup = experiment.setup
    [plan] = decide(setup.network, [recipe.prune.sparsity], **setup.pruning)
    read = dense_from is not None or recipe.dense.checkpoint is not None
    trained = dense_from is None and recipe.dense.epochs > 0
    phases = [
        *(["read"] if read else []),
        *([f"trained for {_epochs(recipe.dense.epochs)}"] if trained else []),
    ]
    tensorboard = tensorboard or "tensorboard" in recipe.log
    written = [path for path in vars(folder).values() if path not in (out, folder.state, folder.tensorboard)]
    return Preview(
        recipe,
        plan,
        read and not trained and recipe.prune.at_once,
        " and ".join(phases) or "initialised",
        tuple(written + [folder.tensorboard] * tensorboard),
    )


def _epochs(count: int) -> str:
    return f"{count:,} epoch" + ("" if count == 1 else "s")
