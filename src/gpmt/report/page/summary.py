"""The summary in words and numbers: whether a network collapsed, and what was pruned at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gpmt.report.content.subject import Score, Stage, Subject
from gpmt.report.page.wording import count, listed, percent, points, seconds, size

State = Literal["good", "warning", "bad", "open"]

COLLAPSED = 0.5
"""A network has collapsed whose top-1 is below this share of the dense network's."""


@dataclass(frozen=True)
class Verdict:
    """What a reader sees first; `state` decides its sign."""

    state: State
    headline: str
    sentence: str


@dataclass(frozen=True)
class Fact:
    """One number; `detail` says of what, or why it is missing."""

    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Bar:
    """An accuracy as a bar; `share` is a fraction, `low` one of a collapsed network."""

    name: str
    share: float
    words: str
    more: str = ""
    dense: bool = False
    low: bool = False


_AFTER: dict[Stage, str] = {"finetuned": "fine-tuning", "recalibrated": "recalibration", "pruned": "pruning"}


def last_score(subject: Subject) -> Score | None:
    """Return the accuracy that counts: the last that was measured after pruning."""
    for stage in _AFTER:
        score = subject.score(stage)
        if score is not None and score.top1 is not None:
            return score
    return None


def verdict(subject: Subject) -> Verdict:
    """Say whether the network works, from its accuracy where that is known, and from its layers."""
    dead = [layer.name for layer in subject.layers if layer.dead]
    dense, last = subject.score("dense"), last_score(subject)
    keep = "keeps" if len(dead) == 1 else "keep"
    lost = f"{len(dead)} of {count(len(subject.layers), 'layer')} {keep} no {subject.unit}: {listed(dead)}."
    lost = " ".join(filter(None, [lost if dead else "", _collapsed(subject)]))
    if not subject.finished:
        return Verdict("open", "Not finished", _progress(subject))
    if subject.verified is False:
        return Verdict("bad", "Not as promised", "The check of the written files failed; see the warnings.")
    if last is not None and last.top1 is not None:
        said = f"Top-1 is {percent(last.top1)} after {_AFTER[last.stage]}"
        if dense is None or dense.top1 is None:
            said += "; that of the dense network is not known."
            return Verdict("warning" if lost else "open", "Pruned", f"{said} {lost}".strip())
        difference = dense.top1 - last.top1
        change = (
            f"{points(difference)} less" if difference >= 0.0005
            else f"{points(-difference)} more" if difference <= -0.0005
            else "the same"
        )  # fmt: skip
        said += f", {percent(dense.top1)} before pruning: {change}."
        if last.top1 < COLLAPSED * dense.top1:
            return Verdict("bad", "Collapsed", f"{said} {lost}".strip())
        if lost:
            return Verdict(
                "warning", f"Works, with {'dead' if dead else 'collapsed'} layers", f"{said} {lost}"
            )
        return Verdict("good", "Works", f"{said} {_fewest(subject)}".strip())
    if dead:
        return Verdict(
            "bad", "Dead layers", f"{lost} Where no shortcut leads around such a layer, no signal passes."
        )
    if not subject.layers:
        return Verdict("open", "Layers are not known", "")
    if lost:
        return Verdict("warning", "Collapsed layers", f"{lost} {_fewest(subject)} Accuracy is not known.")
    return Verdict("good", "No dead layers", f"{_fewest(subject)} Accuracy is not known.")


def _collapsed(subject: Subject) -> str:
    names = subject.collapsed
    if not names:
        return ""
    its = "its outputs" if len(names) == 1 else "the outputs"
    return f"In {listed(names)} fewer than a tenth of {its} have any weight left, which gpmt verify calls collapsed."


def _fewest(subject: Subject) -> str:
    layers = [layer for layer in subject.layers if layer.numel]
    if not layers:
        return ""
    least = min(layers, key=lambda layer: layer.kept)
    where = f"{least.name}: {least.kept:,} of {least.numel:,}"
    return f"Every layer keeps at least {least.kept:,} {subject.unit} ({where})."


def _progress(subject: Subject) -> str:
    scored = [epoch for epoch in subject.history if "test_top1" in epoch.values]
    if not scored:
        return "Nothing is measured yet."
    last = scored[-1]
    phase = "dense training" if last.phase == "dense" else "fine-tuning"
    sparsity = last.values.get("sparsity")
    pruned = "" if sparsity is None else f" at a sparsity of {percent(sparsity)}"
    asked = subject.epochs.get(last.phase)
    of = f" of {asked}" if asked else ""
    return f"After epoch {last.number}{of} of {phase} top-1 is {percent(last.values['test_top1'])}{pruned}."


def bars(subject: Subject) -> list[Bar]:
    """Return the accuracies of all stages, in the order of time."""
    names = {"dense": "dense", "pruned": "pruned", "recalibrated": "recalibrated", "finetuned": "fine-tuned"}
    dense = subject.score("dense")
    enough = COLLAPSED * dense.top1 if dense is not None and dense.top1 is not None else 0.0
    found = []
    for score in subject.scores:
        if score.top1 is None:
            continue
        top5 = "" if score.top5 is None else f"top-5 {percent(score.top5)}"
        is_dense, low = score.stage == "dense", score.top1 < enough
        found.append(Bar(names[score.stage], score.top1, percent(score.top1), top5, is_dense, low))
    return found


def facts(subject: Subject) -> list[Fact]:
    """Return the numbers of a subject; what is not known says so."""
    return [fact for fact in (*_counts(subject), *_costs(subject)) if fact is not None]


def _counts(subject: Subject) -> Sequence[Fact | None]:
    pruned = subject.numel - subject.kept
    known = subject.numel > 0
    asked = f"asked for {subject.asked}; " if subject.asked else ""
    total, nonzero = subject.parameters, subject.nonzero_parameters
    dead = sum(layer.dead for layer in subject.layers)
    binding = sum(layer.binds is True for layer in subject.layers)
    floors = any(layer.floor for layer in subject.layers)
    return [
        Fact(
            "Sparsity in scope",
            percent(subject.sparsity, 4) if known else "–",
            f"{asked}{pruned:,} of {subject.numel:,} prunable {subject.unit} pruned"
            if known
            else f"{asked}not pruned yet",
        ),
        Fact(
            "Whole network",
            "–" if total is None or nonzero is None else percent(1 - nonzero / max(total, 1), 4),
            "zeros among all parameters are not counted"
            if total is None or nonzero is None
            else f"zero; {nonzero:,} of {total:,} parameters are not, biases and norms too",
        ),
        Fact(
            "Layers",
            f"{len(subject.layers):,}" if subject.layers else "–",
            _layer_detail(dead, len(subject.collapsed), binding, floors),
        )
        if subject.layers
        else None,
        Fact(
            "Minimum per layer",
            subject.minimum or "none",
            f"{subject.unit} that every layer keeps at least"
            if subject.minimum
            else "no floor was asked for",
        )
        if subject.minimum or subject.kind != "file"
        else None,
    ]


def _layer_detail(dead: int, collapsed: int, binding: int, floors: bool) -> str:
    said = [f"{dead:,} {'keeps' if dead == 1 else 'keep'} nothing" if dead else "none is dead"]
    said += [f"{collapsed:,} collapsed"] * bool(collapsed)
    said += [f"the floor decides in {binding:,}"] * floors
    return "; ".join(said)


def _costs(subject: Subject) -> Sequence[Fact | None]:
    sizes, latency = subject.sizes, subject.latency
    dense, sparse = subject.macs_dense, subject.macs_sparse
    known = {"dense": sizes.dense, "gzip": sizes.gzip, "sparse": sizes.sparse}
    named = [f"{name} {size(value)}" for name, value in known.items() if value is not None]
    best = sizes.sparse or sizes.gzip or sizes.dense
    return [
        Fact("Size", "–" if best is None else size(best), ", ".join(named) or "not measured"),
        Fact(
            "MACs",
            "–" if sparse is None else percent(sparse / max(dense or 0, 1)) if dense else f"{sparse:,}",
            "not counted" if sparse is None else f"left: {sparse:,}" + (f" of {dense:,}" if dense else ""),
        ),
        Fact(
            "Latency",
            "–" if latency is None else f"{latency.sparse_ms:.3g} ms",
            "not measured"
            if latency is None
            else f"dense {latency.dense_ms:.3g} ms: {latency.dense_ms / latency.sparse_ms:.2f} times as fast; "
            f"batch {latency.batch}, {latency.cpu}",
        ),
        Fact("Time", seconds(sum(subject.seconds.values())), _times(subject)) if subject.seconds else None,
    ]


def _times(subject: Subject) -> str:
    return ", ".join(f"{name} {seconds(value)}" for name, value in subject.seconds.items())
