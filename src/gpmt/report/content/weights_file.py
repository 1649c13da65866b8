"""A file of weights as a subject."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gpmt.core.scope.scope import find_scope
from gpmt.counting import count_tensors
from gpmt.formats.load import load
from gpmt.report.content.documents import Document
from gpmt.report.content.layers import counted_layers, joined, planned_layers, thresholds
from gpmt.report.content.subject import Layer, Subject
from gpmt.report.content.weights import Files, with_weights
from gpmt.report.content.wording import (
    collapsed_sentences,
    dead_sentences,
    minimum_text,
    scope_text,
    sparsity_text,
)


def read_weights(path: Path) -> Subject:
    """Read a file or folder of weights of any tool that `gpmt.load` knows. Raises what that raises.

    A file that a run wrote holds its plan: which floors and thresholds there were.
    """
    checkpoint = load(path)
    scope = find_scope(checkpoint.state_dict)
    counts = counted_layers(count_tensors(scope))
    noted = (checkpoint.container or {}).get("gpmt")
    plan = Document(noted).object("plan")
    known = _is_of(plan, counts)
    layers = joined(planned_layers(plan, "weights"), counts) if known else counts
    judged = {"scope": scope.judged.to_dict(), "coverage": scope.coverage.to_dict()}
    numel = sum(layer.numel for layer in layers)
    tensors = len({layer.tensor for layer in layers})
    missing = ["accuracy, history and times: a file of weights has none; give the folder of a run"]
    if not known:
        missing.append(
            "floors and thresholds: a file of weights does not tell them; give the plan or the run too"
        )
    missing.append("multiply-accumulates: they need the network; gpmt inspect FILE --model NAME counts them")
    missing.append(f"latency: it is not measured; gpmt bench {path} --json > bench.json does it")
    if checkpoint.damaged:
        missing += checkpoint.damaged.values()
    subject = Subject(
        kind="file",
        title=path.name,
        path=str(path),
        numel=numel,
        kept=sum(layer.kept for layer in layers),
        scope=scope_text(Document(judged), tensors, "weights", numel),
        layers=layers,
        missing=missing,
        warnings=[*dead_sentences(layers, "weights"), *collapsed_sentences(layers)],
        **(_asked(plan) if known else {}),
    )
    return with_weights(subject, Files(checkpoint.state_dict, None, path))


def counted(state: Mapping[str, Tensor]) -> list[Layer]:
    """Return the layers of a state_dict, by names and shapes. Raises `ScopeError` where it has none."""
    return counted_layers(count_tensors(find_scope(state)))


def _is_of(plan: Document, layers: list[Layer]) -> bool:
    """Whether a plan in a file counts its weights."""
    sizes = {layer.name: layer.numel for layer in layers}
    planned = planned_layers(plan, "weights")
    return bool(planned) and all(sizes.get(layer.name) == layer.numel for layer in planned)


def _asked(plan: Document) -> dict[str, Any]:
    return {
        "asked": sparsity_text(plan.number("sparsity")),
        "minimum": minimum_text(None, plan.values.get("min_kept")),
        "thresholds": thresholds(plan) if plan.text("ranked_by") == "magnitude" else {},
        "allocation": plan.text("allocation"),
    }
