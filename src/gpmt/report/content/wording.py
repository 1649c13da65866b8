"""Sentences and numbers in words that several readers share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from gpmt.core.budget.budget import parse_sparsity
from gpmt.core.units.registry import unit_of
from gpmt.errors import GpmtError
from gpmt.report.content.documents import Document
from gpmt.report.content.subject import Layer

MACS_RULE = (
    "Each weight of a convolution or a linear, recurrent or attention layer counts one multiply-accumulate at each "
    "position where it is applied, for one input; without zeros, only weights that are not zero count. Biases, norms "
    "and products of activations do not count."
)
_NAMED = 3


def sparsity_text(value: Any) -> str:
    """Return a sparsity as it was asked for, in percent where it is a number.

    >>> sparsity_text(0.9), sparsity_text({"head.*": "0.5", "*": "49/50"}), sparsity_text(None)
    ('90 %', 'head.* 50 %, * 98 %', '')
    """
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{pattern} {sparsity_text(one)}" for pattern, one in value.items())
    exact = as_fraction(value)
    return str(value) if exact is None else f"{float(100 * exact):.6g} %"


def starts_trained(recipe: Document, record: Document) -> bool:
    """Whether a run prunes a trained network: one that it has trained, or that it was given.

    >>> starts_trained(Document({"dense": {"epochs": 0, "checkpoint": None}}), Document({}))
    False
    """
    dense = recipe.object("dense")
    given = dense.text("checkpoint") or record.text("dense_from") or recipe.text("model").startswith("hf:")
    return bool(dense.count("epochs") or given)


def as_fraction(value: Any) -> Fraction | None:
    """Return a sparsity as a number; None where it is not one."""
    try:
        return parse_sparsity(value)
    except GpmtError:
        return None


def minimum_text(asked: Any, resolved: Any) -> str:
    """Return a minimum as it was asked for, with the number of weights that it is; "" for none.

    >>> minimum_text("auto", 47), minimum_text(0, 0), minimum_text(60, 60), minimum_text(None, "head.*: 5")
    ('auto (47)', '', '60', 'head.*: 5')
    """
    if asked in (None, ""):
        asked = resolved
    if asked in (None, "", 0, "0"):
        return ""
    known = isinstance(resolved, int) and not isinstance(resolved, bool) and str(resolved) != str(asked)
    return f"{asked} ({resolved:,})" if known else str(asked)


def scope_text(plan: Document, tensors: int, unit: str, numel: int) -> str:
    """Return what is in the scope and what told so, from what a plan says of it."""
    text = f"{numel:,} {unit} in {tensors:,} tensors"
    coverage, judged = plan.object("coverage"), plan.object("scope")
    share, whole = coverage.number("share"), coverage.count("network_weights")
    if share is not None and whole is not None:
        text += f", {share:.4%} of the network's {whole:,} weights of two and more dimensions"
    if judged.text("by") == "layers":
        text += f"; judged by the layers of {judged.text('network')}"
    elif judged.text("by") == "names":
        text += "; judged by names and shapes"
    return text


def unit_text(granularity: str) -> str:
    """Return what is counted, by the name of a granularity; weights for one that is not known.

    >>> unit_text("row"), unit_text("")
    ('rows', 'weights')
    """
    try:
        return unit_of(granularity).plural
    except GpmtError:
        return "weights"


def dead_sentences(layers: Iterable[Layer], unit: str) -> list[str]:
    """Say which layers are dead; "" none."""
    dead = [layer for layer in layers if layer.dead]
    if not dead:
        return []
    if len(dead) == 1:
        return [f"{dead[0].name} keeps none of its {dead[0].numel:,} {unit}, so that it passes no signal"]
    return [f"{len(dead):,} layers keep none of their {unit}: {first_names([layer.name for layer in dead])}"]


def collapsed_sentences(layers: Iterable[Layer]) -> list[str]:
    """Say which tensors are collapsed, as ``gpmt verify`` does."""
    names = list(dict.fromkeys(layer.tensor for layer in layers if layer.collapsed))
    return [f"fewer than a tenth of the outputs are live in {first_names(names)}"] if names else []


def first_names(names: Sequence[str]) -> str:
    """Name up to three, and say how many more there are."""
    rest = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest
