"""Evaluating a checkpoint: its accuracy on a recipe's data, its zeros and its MACs, beside the published row."""

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from gpmt.core.budget.budget import parse_sparsity
from gpmt.formats.checkpoint import Checkpoint
from gpmt.macs import count_macs
from gpmt.training.recipes.schema import Compute, Recipe
from gpmt.training.run.devices import make_accelerator
from gpmt.training.run.loop import evaluate
from gpmt.training.run.metrics import total_macs
from gpmt.training.run.progress import Reporter
from gpmt.training.run.score import Score
from gpmt.training.run.setup import load_source, new_network
from gpmt.training.weights import load_weights
from gpmt.verification import Verification, verify

BATCH_SIZE = 64

TEST_SIZES = {
    "cifar10": 10_000,
    "cifar100": 10_000,
    "fashion-mnist": 10_000,
    "har2": 2_947,
    "har6": 2_947,
    "imagenet": 50_000,
    "mnist": 10_000,
}
"""Samples in the test splits that results are published on (for ImageNet, the validation split)."""

SPARSITY_TOLERANCE = 0.001
"""Sparsities that differ by no more count as equal: published ones are rounded, and met only nearly."""


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate_checkpoint`.

    `verification` counts the zeros of every prunable tensor, `macs` are the MACs of each with all its weights, and
    `seconds` is the time of the evaluation alone. The recipe's data are as they were used.
    """

    recipe: Recipe
    score: Score
    verification: Verification
    parameters: int
    macs: dict[str, int | None]
    seconds: float

    @property
    def sparsity(self) -> float:
        """Fraction of the prunable weights (or columns) that is zero."""
        return self.verification.pruned / self.verification.numel

    @property
    def published_top1(self) -> float | None:
        """The published top-1 as a fraction, where the recipe has one."""
        top1 = self.recipe.expects.top1
        return None if top1 is None else top1 / 100

    @property
    def published_sparsity(self) -> float:
        """The sparsity of the published row, which is the recipe's."""
        return float(parse_sparsity(self.recipe.prune.sparsity))

    @property
    def total_macs(self) -> dict[str, int]:
        """MACs of one input with all weights, and without those that are zero."""
        return total_macs(self.macs, self.verification.tensors)

    def notes(self) -> list[str]:
        """Return sentences on what makes this accuracy differ from the published one."""
        notes = []
        name, images, top1 = self.recipe.data.name, self.score.images, self.score.top1
        if images != TEST_SIZES.get(name, images):
            # Laplace's rule of succession: no correct answer among few images does not mean a rate of 0.
            share = (top1 * images + 1) / (images + 2)
            error = math.sqrt(share * (1 - share) / images)
            notes.append(
                f"these are {images:,} images, not the {TEST_SIZES[name]:,} that {name} is evaluated on; "
                f"the standard error of top-1 is {error:.2%}"
            )
        if (
            self.published_top1 is not None
            and abs(self.sparsity - self.published_sparsity) > SPARSITY_TOLERANCE
        ):
            notes.append(
                f"the published row is at {100 * self.published_sparsity:.6g}% sparsity, "
                f"these weights are at {100 * self.sparsity:.6g}%"
            )
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values, ready for JSON; accuracies and sparsities are fractions.

        A loss that is not finite is None.
        """
        published = None
        if self.published_top1 is not None:
            published = {
                "top1": self.published_top1,
                "sparsity": self.published_sparsity,
                "source": self.recipe.expects.source,
                "difference": self.score.top1 - self.published_top1,
            }
        return {
            "model": self.recipe.model,
            "data": self.recipe.data.model_dump(mode="json"),
            **asdict(self.score),
            "loss": self.score.loss if math.isfinite(self.score.loss) else None,
            "seconds": self.seconds,
            "parameters": self.parameters,
            "macs": self.total_macs,
            "dense_macs": self.macs,
            "published": published,
            "notes": self.notes(),
            **self.verification.to_dict(),
        }


def evaluate_checkpoint(
    recipe: Recipe, checkpoint: Checkpoint | None, *, batch_size: int = BATCH_SIZE, quiet: bool = False
) -> Evaluation:
    """Evaluate a checkpoint on the test split of a recipe's data, in float32 whatever the recipe trains in.

    The recipe gives the network, the data, the scope of pruning and the published accuracy. Without a checkpoint
    the network is evaluated as it is built, which is for networks with weights of their own. With several
    processes each takes a part of the images, and all return the same. With `quiet` no progress is shown.

    Raises CheckpointError where the weights do not fit network or data, and what `datasets.load` and `build` raise.
    """
    device = recipe.compute.device if torch.accelerator.is_available() else "cpu"
    recipe = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"train_limit": None}),
            "compute": Compute(
                device=device, precision="float32", channels_last=recipe.compute.channels_last
            ),
        }
    )
    accelerator = make_accelerator(recipe)
    reporter = Reporter(silent=not accelerator.is_main_process, quiet=quiet)
    source = load_source(recipe, accelerator, reporter, training=False)
    network = new_network(recipe, source)
    if checkpoint is not None:
        load_weights(network, checkpoint, name=recipe.model)
    scope, exclude = recipe.prune.scope, recipe.prune.exclude
    verification = verify(network, scope=scope, exclude=exclude, granularity=recipe.prune.granularity)
    macs = count_macs(network, source.example(), scope=scope, exclude=exclude)
    network.to(accelerator.device)
    start = time.monotonic()
    with reporter.bar("evaluation", source.test_size) as advance:
        score = evaluate(
            network,
            source,
            accelerator,
            advance=advance,
            batch_size=batch_size,
            memory_format=torch.channels_last if recipe.compute.channels_last else torch.contiguous_format,
        )
    return Evaluation(
        recipe,
        score,
        verification,
        sum(parameter.numel() for parameter in network.parameters()),
        macs,
        time.monotonic() - start,
    )
