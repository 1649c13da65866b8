"""What both phases of an experiment work with: the network, the data, the devices, and the record."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from accelerate import Accelerator
from torch import nn

from gpmt.model_tools import unwrap
from gpmt.training.data import datasets
from gpmt.training.data.source import Source
from gpmt.training.models import build, text_length
from gpmt.training.recipes.schema import Recipe
from gpmt.training.run.loop import evaluate, seed_everything
from gpmt.training.run.progress import Reporter
from gpmt.training.run.run_folder import RunFolder
from gpmt.training.run.score import Score
from gpmt.training.run.time_budget import TimeBudget


@dataclass
class Setup:
    """One network with its data on its devices.

    Attributes:
        model: the network as the processes train it together.
        source: the data.
        record: what was measured so far: per phase the history (entry 0 is the score before any training in
            the phase) and the seconds; the plan; the best epoch; when and with which commands it was started.
        publish: is called in the first process after every epoch, once its record is written.
    """

    recipe: Recipe
    folder: RunFolder
    accelerator: Accelerator
    reporter: Reporter
    time_budget: TimeBudget
    source: Source
    model: nn.Module
    record: dict[str, Any]
    publish: Callable[[], None] = lambda: None

    @property
    def network(self) -> nn.Module:
        """The network without its wrappers."""
        return unwrap(self.model)

    @property
    def pruning(self) -> dict[str, Any]:
        """The arguments of `gpmt.plan` that the recipe gives, except for the sparsity."""
        return plan_options(self.recipe)

    @property
    def memory_format(self) -> torch.memory_format:
        """How images and convolutions are laid out."""
        return torch.channels_last if self.recipe.compute.channels_last else torch.contiguous_format

    def fresh_network(self) -> nn.Module:
        """Return another network of the recipe on the same device, with newly initialised weights."""
        return new_network(self.recipe, self.source).to(self.accelerator.device)

    def evaluate(self, network: nn.Module | None = None) -> Score:
        """Return the score of `network` (this one if not given) on the test split."""
        network = network or self.network
        if self.accelerator.num_processes > 1:
            # Running means differ between processes; those of the first are saved.
            for buffer in network.buffers():
                torch.distributed.broadcast(buffer, src=0)
        with self.reporter.bar("evaluation", self.source.test_size) as advance:
            return evaluate(
                network, self.source, self.accelerator, advance=advance, memory_format=self.memory_format
            )


def plan_options(recipe: Recipe) -> dict[str, Any]:
    """Return the arguments of `gpmt.plan` that a recipe gives, except for the sparsity."""
    prune = recipe.prune
    return {
        "min_kept": prune.min_kept,
        "scope": prune.scope,
        "exclude": prune.exclude,
        "allocation": prune.allocation,
        "granularity": prune.granularity,
        "within": prune.within,
        "pattern": prune.pattern,
        "seed": recipe.seed,
    }


def read_source(recipe: Recipe, reporter: Reporter, *, training: bool = True) -> Source:
    """Return the recipe's data, not yet on a device; without `training` what is only for it may be left unread."""
    options = recipe.data.model_dump()
    if recipe.data.name == "hf" and text_length(recipe.model):
        options["tokenizer"] = recipe.model.removeprefix("hf:")
    return datasets.load(**options, training=training, track=reporter.track)


def load_source(
    recipe: Recipe, accelerator: Accelerator, reporter: Reporter, *, training: bool = True
) -> Source:
    """Return the recipe's data on the device of this process, as `read_source` reads them."""
    return read_source(recipe, reporter, training=training).placed(
        accelerator.device, rank=accelerator.process_index, processes=accelerator.num_processes
    )


def new_network(recipe: Recipe, source: Source) -> nn.Module:
    """Return the recipe's network for these data, initialised from the recipe's seed."""
    seed_everything((recipe.seed,))
    network = build(
        recipe.model,
        num_classes=len(source.classes),
        input_shape=source.input_shape,
        inputs=source.example(),
    )
    if not recipe.compute.channels_last:
        return network
    return network.to(memory_format=torch.channels_last)
