"""A total of epochs, split between dense training and the phase that prunes; and what short settings leave open."""

from collections.abc import Collection, Mapping
from typing import Any

from gpmt.core.budget.budget import parse_sparsity
from gpmt.errors import BudgetError, RecipeError
from gpmt.training.recipes.pruning import FROM_SCRATCH, SOFT, fitting_schedule
from gpmt.training.recipes.section import has_weights

DENSE_ALONE = ("checkpoint", "cram")
"""Settings of the dense phase that the phase that prunes does not have; a test holds them to the classes."""

CLIP = 3.0
"""The norm of gradients at which the published codes of Feather and ST-3 clip them; HAM too is clipped there."""

HIGH_SPARSITY = parse_sparsity(0.95)
"""From here on, one-shot pruning is followed by training without weight decay, unless the recipe gives one."""


def split_budget(settings: dict[str, Any], fixed: Collection[str]) -> None:
    """Give the phases their epochs where there is a budget; `fixed` are the dotted keys that were given with it.

    * A trained network is there: all for pruning and fine-tuning it.
    * One-shot pruning of an untrained one: half for the dense network, half for fine-tuning.
    * Pruning while training: all of it so, without a dense network before, and with the settings of dense training.

    Epochs of one phase that are given leave the rest to the other. What counts epochs (steps of the learning rate,
    warm-up, start, end and interval of pruning) keeps its share of its phase, unless it is given with the budget.
    Settings that are not valid are left to the checks of the recipe. Raises RecipeError for too small a budget.
    """
    total = _section(settings, "budget").get("epochs")
    dense, prune, finetune = (_section(settings, name) for name in ("dense", "prune", "finetune"))
    before = {"dense": dense.get("epochs", 0), "finetune": finetune.get("epochs", 0)}
    if type(total) is not int or total < 1 or any(type(epochs) is not int for epochs in before.values()):
        return
    after = _shares(settings, total, before, fixed)
    if before["dense"] and not after["dense"] and not has_weights(settings):
        own = {key: value for key, value in finetune.items() if f"finetune.{key}" in fixed}
        taken = {key: value for key, value in dense.items() if key not in DENSE_ALONE}
        finetune = {**taken, **own}
        _scale(finetune, "finetune", after["finetune"], before["dense"], fixed)
    else:
        _scale(finetune, "finetune", after["finetune"], before["finetune"], fixed)
    if not after["dense"] and not any(key.startswith("dense.cram") for key in fixed):
        dense.pop("cram", None)
    _scale(dense, "dense", after["dense"], before["dense"], fixed)
    if before["finetune"] and after["finetune"] != before["finetune"]:
        for key in ("start", "end", "interval"):
            if f"prune.{key}" not in fixed and type(prune.get(key)) in (int, float):
                prune[key] = round(prune[key] * after["finetune"] / before["finetune"], 6)
    settings |= {
        "dense": {**dense, "epochs": after["dense"]},
        "prune": prune,
        "finetune": {**finetune, "epochs": after["finetune"]},
    }


def fill_in(settings: dict[str, Any]) -> None:
    """Set what suits the way of pruning and is not given, as published.

    Feather and ST-3 clip the norm of gradients, since without it the dense weights of a network with batch norms grow
    and grow; and HAM does with its own alpha, since a network without them diverges: its weights grow by a factor in
    every step. Pruning once to a high sparsity is followed by training without weight decay.
    """
    finetune = _section(settings, "finetune")
    if _needs_clipping(_section(settings, "prune")) and finetune.get("clip_norm") is None:
        finetune = settings["finetune"] = {**finetune, "clip_norm": CLIP}
    if "weight_decay" in finetune or not _prunes_once(settings):
        return
    try:
        high = parse_sparsity(_section(settings, "prune").get("sparsity", 0)) >= HIGH_SPARSITY
    except BudgetError:
        return
    if high:
        settings["finetune"] = {**finetune, "weight_decay": 0.0}


def _needs_clipping(prune: Mapping[str, Any]) -> bool:
    method, settings = prune.get("method"), prune.get("method_settings")
    given = isinstance(settings, Mapping) and "alpha" in settings
    return method in SOFT or ("ham" in str(method).split("+") and not given)


def _shares(
    settings: Mapping[str, Any], total: int, before: Mapping[str, int], fixed: Collection[str]
) -> dict[str, int]:
    """Return the epochs of both phases."""
    given = {phase: f"{phase}.epochs" in fixed for phase in before}
    if all(given.values()):
        return dict(before)  # the recipe's own check compares their sum
    for phase, other in (("dense", "finetune"), ("finetune", "dense")):
        if given[phase]:
            if before[phase] > total:
                raise RecipeError(
                    f"budget.epochs is {total}, but {phase}.epochs alone is {before[phase]}; leave one of them out"
                )
            return {phase: before[phase], other: total - before[phase]}
    if not _section(settings, "prune").get("sparsity", 0):
        return {"dense": total, "finetune": 0}
    if has_weights(settings) or not _prunes_once(settings):
        return {"dense": 0, "finetune": total}
    if total < 2:
        raise RecipeError(
            "budget.epochs is 1, but one-shot pruning of an untrained network needs an epoch before and one after; "
            "give at least 2, or dense.checkpoint"
        )
    return {"dense": total // 2, "finetune": total - total // 2}


def _prunes_once(settings: Mapping[str, Any]) -> bool:
    """Whether a trained network is pruned, all at once."""
    prune = _section(settings, "prune")
    schedule = prune.get("schedule") or fitting_schedule(prune.get("method"))
    return schedule == "one-shot" and not prune.get("start") and prune.get("method") not in FROM_SCRATCH


def _scale(section: dict[str, Any], phase: str, after: int, before: int, fixed: Collection[str]) -> None:
    """Let what counts epochs keep its share of a phase."""
    if not before or after == before:
        return
    for key, least, most in (("lr_step_epochs", 1, after), ("warmup_epochs", 0, after - 1)):
        if type(section.get(key)) is int and f"{phase}.{key}" not in fixed:
            section[key] = max(least, min(round(section[key] * after / before), most))


def _section(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = settings.get(name)
    return dict(section) if isinstance(section, Mapping) else {}
