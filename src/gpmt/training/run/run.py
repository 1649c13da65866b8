"""One run of a recipe: checks, phases, and the files that show for it."""

from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list

from gpmt import allocations
from gpmt.errors import GpmtError
from gpmt.macs import count_macs, sparse_macs
from gpmt.training.models import construct
from gpmt.training.recipes.schema import Recipe
from gpmt.training.run.devices import make_accelerator
from gpmt.training.run.environment import machine, versions
from gpmt.training.run.experiment import Experiment
from gpmt.training.run.progress import Reporter
from gpmt.training.run.run_folder import RunFolder
from gpmt.training.run.time_budget import Allowance, Spent
from gpmt.verification import verify


class Interrupted(KeyboardInterrupt):
    """The user stopped the run; the text says how far it got."""


class Stopped(Exception):
    """The run used up the minutes or epochs that it was given; the text says how far it got."""


def run(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    force: bool = False,
    dense_from: Path | None = None,
    max_minutes: float | None = None,
    max_epochs: int | None = None,
    tensorboard: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Carry out `recipe`, write everything into the folder `out`, and return the metrics.

    With `resume` the run goes on after the last epoch that was finished, with the same result as if it had
    not been stopped; a finished run is returned as it is. With `force` the run in `out` is overwritten.
    `dense_from` is the folder of a run with the same dense network, which is taken from there. After
    `max_minutes` or `max_epochs` of this call, the run stops with its state saved. `tensorboard` writes the
    curves for TensorBoard too, and `command` is noted in the metrics. In the metrics, sparsity and accuracy
    are fractions, times are seconds.

    What can be wrong with recipe, data, checkpoint and budget is found before `out` is touched. Raises the
    subclasses of GpmtError, `Interrupted` on Ctrl-C, and `Stopped`.
    """
    folder = RunFolder(out)
    folder.check(recipe, resume=resume, force=force)
    accelerator = make_accelerator(recipe)
    reporter = Reporter(silent=not accelerator.is_main_process)
    if resume and (metrics := folder.finished()):
        reporter.line(f"{out} is finished already")
        return metrics
    state = folder.load_state() if resume else None
    allowance = Allowance(minutes=max_minutes, epochs=max_epochs)
    experiment = Experiment(
        recipe, folder, accelerator, reporter, allowance, state=state, dense_from=dense_from
    )
    accelerator.wait_for_everyone()  # all have read what the first may now remove
    if accelerator.is_main_process:
        folder.start(recipe, resume=resume, tensorboard=tensorboard)
    reporter.log = folder.log
    experiment.setup.record["commands"].append(command)
    reporter.line(f"{recipe.title}: {command}")
    try:
        experiment.carry_out()
        results = [_finish(experiment) if accelerator.is_main_process else None]
    except KeyboardInterrupt:
        reporter.line(f"interrupted {experiment.progress}")
        raise Interrupted(experiment.progress) from None
    except Spent as spent:
        reporter.line(f"stopped {spent}, {experiment.progress}")
        raise Stopped(f"{spent}, {experiment.progress}") from None
    except RuntimeError as error:
        if sentence := _machine_failure(error, experiment.progress):
            raise GpmtError(sentence) from error
        raise
    broadcast_object_list(results)
    return results[0] or {}


def _machine_failure(error: RuntimeError, progress: str) -> str | None:
    """Say what the machine lacked, or return None for an error of another kind."""
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"the device ran out of memory {progress}; lower batch_size or raise accumulate, and start again"
        )
    if "DataLoader worker" in str(error):
        return (
            f"a process that reads data was killed {progress}, probably for want of memory; lower "
            "data.workers and go on with --resume"
        )
    return None


def _finish(experiment: Experiment) -> dict[str, Any]:
    """Verify the files that were written, and write the metrics."""
    setup = experiment.setup
    recipe, folder, record = setup.recipe, setup.folder, setup.record
    prune = recipe.prune
    verification = verify(
        folder.model,
        masks=folder.masks,
        sparsity=prune.sparsity if allocations.find(prune.allocation).exact_total else None,
        min_kept=prune.min_kept,
        scope=prune.scope,
        exclude=prune.exclude,
        granularity=prune.granularity,
    )
    fewest = min(verification.tensors, key=lambda tensor: tensor.kept)
    history = record["history"]
    first, last = history["finetune"][0], history["finetune"][-1]
    prunes_first = prune.schedule == "one-shot" and not prune.start
    plain = construct(
        recipe.model, num_classes=len(setup.source.classes), input_shape=setup.source.input_shape
    ).to(setup.accelerator.device)
    macs = count_macs(plain, setup.source.example(), scope=prune.scope, exclude=prune.exclude)
    metrics = {
        "title": recipe.title,
        "seed": recipe.seed,
        "dense": history["dense"][-1]["test"],
        "pruned": first["test"] if prunes_first else None,
        "recalibrated": first.get("recalibrated"),
        "finetuned": last.get("recalibrated", last["test"]),
        "sparsity": verification.pruned / verification.numel,
        "unit": verification.unit,
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
        # A layer that died is no broken promise where no minimum was given: that is what the run is to show.
        "verified": all(check.ok for check in verification.checks if check.name != "dead"),
        "dead": [tensor.name for tensor in verification.tensors if tensor.dead],
        "verification": verification.to_dict(),
        **record,
        "images": {"train": setup.source.train_size, "test": setup.source.test_size},
        "recipe": recipe.model_dump(mode="json"),
        "machine": machine(setup.accelerator),
        "versions": versions(),
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    folder.finish(metrics)
    for line in str(verification).splitlines():
        setup.reporter.line(line)
    return metrics
