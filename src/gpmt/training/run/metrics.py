"""The metrics of a finished run, as metrics.json holds them."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from gpmt import allocations
from gpmt.core.scope.tensor_count import TensorCount
from gpmt.macs import count_macs, sparse_macs
from gpmt.training.models import construct
from gpmt.training.run.environment import machine, versions
from gpmt.training.run.setup import Setup
from gpmt.verification import Verification, verify


def run_metrics(setup: Setup) -> tuple[dict[str, Any], Verification]:
    """Verify the files that the run has written; return its metrics, ready for JSON, and the verification."""
    recipe, folder, record, source = setup.recipe, setup.folder, setup.record, setup.source
    prune = recipe.prune
    verification = verify(
        folder.model,
        masks=folder.masks,
        sparsity=prune.sparsity if allocations.find(prune.allocation).exact_total else None,
        min_kept=prune.min_kept,
        scope=prune.scope,
        exclude=prune.exclude,
        granularity=prune.granularity,
        within=prune.within,
        pattern=prune.pattern,
    )
    fewest = min(verification.tensors, key=lambda tensor: tensor.kept)
    history = record["history"]
    first, last = history["finetune"][0], history["finetune"][-1]
    network = construct(recipe.model, num_classes=len(source.classes), input_shape=source.input_shape)
    network.to(setup.accelerator.device)
    macs = count_macs(network, source.example(), scope=prune.scope, exclude=prune.exclude)
    metrics = {
        "title": recipe.title,
        "seed": recipe.seed,
        "dense": history["dense"][-1]["test"],
        "pruned": first["test"] if prune.at_once else None,
        "recalibrated": first.get("recalibrated"),
        "finetuned": last.get("recalibrated", last["test"]),
        "sparsity": verification.pruned / verification.numel,
        "unit": verification.unit,
        "weights": verification.numel,
        "kept": verification.kept,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "macs": {
            **total_macs(macs, verification.tensors),
            "layers": {name: count for name, count in macs.items() if count is not None},
        },
        "fewest_kept": {"name": fewest.name, "kept": fewest.kept, "weights": fewest.numel},
        # Without a minimum a layer may lose all its weights; that is a result of the run, not an error.
        "verified": all(check.ok for check in verification.checks if check.name != "dead"),
        "dead": [tensor.name for tensor in verification.tensors if tensor.dead],
        "verification": verification.to_dict(),
        **record,
        "images": {"train": source.train_size, "test": source.test_size},
        "recipe": recipe.model_dump(mode="json"),
        "machine": machine(setup.accelerator),
        "versions": versions(),
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    return metrics, verification


def total_macs(macs: Mapping[str, int | None], tensors: Iterable[TensorCount]) -> dict[str, int]:
    """Return the MACs of one input with all weights (``dense``), and without those that are zero (``sparse``)."""
    left = (sparse_macs(macs[tensor.name] or 0, numel=tensor.numel, kept=tensor.kept) for tensor in tensors)
    return {"dense": sum(filter(None, macs.values())), "sparse": sum(left)}
