"""One run of a recipe: checks, phases, and the files that show for it."""

from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from gpmt.macs import count_macs, sparse_macs
from gpmt.training.environment import machine, versions
from gpmt.training.experiment import Experiment
from gpmt.training.folder import RunFolder
from gpmt.training.progress import Reporter
from gpmt.training.recipe import Recipe
from gpmt.verification import verify


class Interrupted(KeyboardInterrupt):
    """The user stopped the run; the text says how far it got."""


def run(
    recipe: Recipe, out: Path, *, resume: bool = False, force: bool = False, command: str = ""
) -> dict[str, Any]:
    """Carry out `recipe`, write everything into the folder `out`, and return the metrics.

    With `resume` the run goes on after the last epoch that was finished, with the same result as if it had
    not been stopped; a finished run is returned as it is. With `force` the run in `out` is overwritten.
    `command` is noted in the metrics. In the metrics, sparsity and accuracy are fractions, times are seconds.

    What can be wrong with recipe, data, checkpoint and budget is found before `out` is touched. Raises the
    subclasses of GpmtError, and `Interrupted` on Ctrl-C.
    """
    folder = RunFolder(out)
    folder.check(recipe, resume=resume, force=force)
    # Accelerate takes part in a CPU-only torchrun only when told that the CPU is meant.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    reporter = Reporter(silent=not accelerator.is_main_process)
    if resume and (metrics := folder.finished()):
        reporter.line(f"{out} is finished already")
        return metrics
    state = folder.load_state() if resume else None
    experiment = Experiment(recipe, folder, accelerator, reporter, state=state)
    if accelerator.is_main_process:
        folder.start(recipe, resume=resume)
    reporter.log = folder.log
    experiment.record["commands"].append(command)
    reporter.line(f"{recipe.title}: {command}")
    try:
        experiment.carry_out()
        results = [_finish(experiment) if accelerator.is_main_process else None]
    except KeyboardInterrupt:
        reporter.line(f"interrupted {experiment.progress}")
        raise Interrupted(experiment.progress) from None
    broadcast_object_list(results)
    return results[0] or {}


def _finish(experiment: Experiment) -> dict[str, Any]:
    """Verify the files that were written, and write the metrics."""
    recipe, folder, record = experiment.recipe, experiment.folder, experiment.record
    prune = recipe.prune
    verification = verify(
        folder.model,
        masks=folder.masks,
        # The authors' scheme meets the total only nearly, by design.
        sparsity=None if prune.allocation == "reference" else prune.sparsity,
        min_kept=prune.min_kept,
    )
    fewest = min(verification.tensors, key=lambda tensor: tensor.kept)
    history = record["history"]
    macs = count_macs(experiment.network, experiment.source.input_shape, exclude=prune.exclude)
    metrics = {
        "title": recipe.title,
        "seed": recipe.seed,
        "dense": history["dense"][-1]["test"],
        "pruned": history["finetune"][0]["test"],
        "finetuned": history["finetune"][-1]["test"],
        "sparsity": verification.pruned / verification.numel,
        "weights": verification.numel,
        "kept": verification.kept,
        "parameters": experiment.parameters,
        "macs": {
            "dense": sum(filter(None, macs.values())),
            "sparse": sum(
                sparse_macs(macs[tensor.name] or 0, numel=tensor.numel, kept=tensor.kept)
                for tensor in verification.tensors
            ),
        },
        "fewest_kept": {"name": fewest.name, "kept": fewest.kept, "weights": fewest.numel},
        "verification": verification.to_dict(),
        **record,
        "images": {"train": experiment.source.train_size, "test": experiment.source.test_size},
        "recipe": recipe.model_dump(mode="json"),
        "machine": machine(experiment.accelerator),
        "versions": versions(),
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    folder.finish(metrics)
    for line in str(verification).splitlines():
        experiment.reporter.line(line)
    return metrics
