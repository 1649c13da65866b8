"""A plan as a subject: a file that `Plan.save` wrote, or the output of ``gpmt plan --json``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gpmt.errors import ReportError
from gpmt.planning.document import FORMAT
from gpmt.planning.plan import Plan
from gpmt.report.content.documents import Document
from gpmt.report.content.layers import planned_layers, thresholds, with_macs
from gpmt.report.content.subject import Subject
from gpmt.report.content.wording import (
    MACS_RULE,
    dead_sentences,
    minimum_text,
    scope_text,
    sparsity_text,
    unit_text,
)

_SETTINGS = ("sparsity", "min_kept", "allocation", "within", "granularity", "pattern", "ranked_by", "macs")


def is_plan(document: Document) -> bool:
    """Whether a document is a plan, in either form."""
    return document.text("format") == FORMAT or ("achieved_sparsity" in document and "tensors" in document)


def read_plan(path: Path, document: Document) -> Subject:
    """Return a plan as a subject.

    Args:
        path: the file.
        document: what it holds.

    Raises:
        PlanError: a plan that `Plan.load` refuses.
        ReportError: the output of ``gpmt plan --json`` without layers.
    """
    loaded = Plan.load(path) if document.text("format") == FORMAT else None
    plan = document if loaded is None else Document(loaded.to_dict())
    unit = unit_text(plan.text("granularity"))
    layers = with_macs(planned_layers(plan, unit), document.numbers("dense_macs"))
    if loaded is not None and len(loaded.groups) > 1:
        labels = {block.name: group.label for group in loaded.groups for block in group.blocks}
        layers = [replace(layer, group=labels[layer.name]) for layer in layers]
    if not layers:
        raise ReportError(
            f"{path} is a plan without tensors; gpmt plan FILE --sparsity RATIO -o {path} writes one"
        )
    numel, kept = sum(layer.numel for layer in layers), sum(layer.kept for layer in layers)
    counted = [layer for layer in layers if layer.macs_dense is not None]
    missing = [
        "accuracy, history and times: a plan has none; gpmt run trains and evaluates",
        "magnitudes, channels and sizes: a plan has no weights; prune with gpmt prune FILE -o OUT --plan "
        f"{path}, and give OUT too",
        "latency: a plan has none; gpmt bench OUT measures that of the pruned weights",
    ]
    if not counted:
        missing.append(
            "multiply-accumulates: they need the network; gpmt plan FILE --model NAME --json > plan.json has them"
        )
    return Subject(
        kind="plan",
        title=path.name,
        path=str(path),
        asked=_asked(plan),
        numel=numel,
        kept=kept,
        unit=unit,
        scope=scope_text(plan, len({layer.tensor for layer in layers}), unit, numel),
        minimum=minimum_text(None, plan.values.get("min_kept")),
        thresholds=thresholds(plan),
        allocation=plan.text("allocation"),
        layers=layers,
        macs_dense=sum(layer.macs_dense or 0 for layer in counted) or None,
        macs_sparse=sum(layer.macs_sparse or 0 for layer in counted) if counted else None,
        macs_rule=MACS_RULE if counted else "",
        recipe={key: plan.values[key] for key in _SETTINGS if plan.values.get(key) is not None},
        missing=missing,
        warnings=[*dead_sentences(layers, unit), *plan.texts("warnings")],
    )


def _asked(plan: Document) -> str:
    """Return the sparsity of each group; the pattern N:M where there is one."""
    if plan.text("pattern"):
        return plan.text("pattern")
    groups = {group.text("group"): group.number("sparsity") for group in plan.rows("groups")}
    if plan.text("within") == "tensor" and len(set(groups.values())) == 1:
        return f"{sparsity_text(next(iter(groups.values())))} of every tensor"
    return sparsity_text(groups if set(groups) != {""} else groups[""])
