"""The folder of a run as a subject, finished or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from gpmt.errors import GpmtError
from gpmt.formats.load import load
from gpmt.formats.run_result import RECIPE, RESULT
from gpmt.formats.torch_file import read_torch
from gpmt.report.content import history as epochs
from gpmt.report.content.bench_file import BENCH, Bench, read_bench
from gpmt.report.content.documents import Document, read_document, read_settings
from gpmt.report.content.layers import joined, planned_layers, thresholds, verified_layers, with_macs
from gpmt.report.content.subject import Epoch, Latency, Score, Stage, Subject
from gpmt.report.content.weights import Files, with_weights
from gpmt.report.content.weights_file import counted
from gpmt.report.content.wording import (
    MACS_RULE,
    dead_sentences,
    minimum_text,
    scope_text,
    sparsity_text,
    starts_trained,
    unit_text,
)
from gpmt.runs.log import DIVERGED, INTERRUPTED, LOG, STOPPED, ending

METRICS, HISTORY, STATE, DENSE = "metrics.json", "history.csv", "state.pt", "dense.pt"
_STAGES: tuple[Stage, ...] = ("dense", "pruned", "recalibrated", "finetuned")


def read_run(path: Path, problems: list[str]) -> Subject:
    """Read the folder of a run.

    What cannot be read of it is added to `problems`, a sentence each, and left out.

    Args:
        path: the folder.
        problems: added to.
    """
    return _Run(path, problems).subject()


@dataclass
class _Run:
    """What the files of a run hold: its metrics, or what its state notes while it goes on."""

    path: Path
    problems: list[str]
    metrics: Document = field(default_factory=lambda: Document({}))
    recipe: Document = field(default_factory=lambda: Document({}))
    state: Document = field(default_factory=lambda: Document({}))
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        again = f"gpmt run {self.path / RECIPE} -o FOLDER makes the run again"
        if (self.path / METRICS).is_file():
            found: Document | None = self._attempt(read_document, self.path / METRICS, again)
            self.metrics = Document({}) if found is None else found
            if found is not None and found.count("kept") is None:
                self.problems.append(
                    f"{self.path / METRICS} has no count of the weights that are kept; {again}"
                )
                self.metrics = Document({})
        elif (self.path / STATE).is_file():
            self.state = Document(self._attempt(read_torch, self.path / STATE))
        self.recipe = self.metrics.object("recipe")
        if not self.recipe and (self.path / RECIPE).is_file():
            remedy = "the settings of a run are there from its start; see README.md beside it"
            self.recipe = self._attempt(read_settings, self.path / RECIPE, remedy) or Document({})

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end; its metrics come last."""
        return (self.path / METRICS).is_file()

    @property
    def record(self) -> Document:
        """What was noted of the run: all of it in its metrics, or as far as it got."""
        return self.metrics or self.state.object("record")

    def subject(self) -> Subject:
        """Return all that the files tell."""
        prune, plan = self.recipe.object("prune"), self.record.object("plan")
        unit = unit_text(plan.text("granularity") or prune.text("granularity"))
        history = self._history()
        subject = Subject(
            kind="run",
            title=self.metrics.text("title") or self.recipe.text("title") or self.path.name,
            path=str(self.path),
            finished=self.finished,
            asked=sparsity_text(prune.values.get("sparsity")),
            unit=unit,
            parameters=self.metrics.count("parameters"),
            minimum=minimum_text(prune.values.get("min_kept"), plan.values.get("min_kept")),
            thresholds=thresholds(plan),
            schedule=prune.text("schedule"),
            method=prune.text("method"),
            allocation=prune.text("allocation"),
            layers=joined(
                planned_layers(plan, unit), verified_layers(self.metrics.object("verification"), unit)
            ),
            history=history,
            scores=self._scores(history),
            latency=self._latency(),
            seed=self.recipe.count("seed"),
            verified=self.metrics.flag("verified"),
            epochs={
                phase: number
                for phase in ("dense", "finetune")
                if (number := self.recipe.object(phase).count("epochs")) is not None
            },
            seconds=self.record.numbers("seconds"),
            recipe=self.recipe.values,
            versions={k: str(v) for k, v in self.metrics.object("versions").values.items()},
            machine=self.metrics.object("machine").values,
            commands=self.record.texts("commands"),
        )
        subject = self._with_macs(self._with_weights(subject, plan))
        numel = self.metrics.count("weights") or sum(layer.numel for layer in subject.layers)
        kept = self.metrics.count("kept")
        tensors = len({layer.tensor for layer in subject.layers})
        if not self.metrics:
            self.missing.append(self._without_metrics())
        return replace(
            subject,
            numel=numel,
            kept=sum(layer.kept for layer in subject.layers) if kept is None else kept,
            scope=scope_text(plan, tensors, unit, numel) if subject.layers else "",
            missing=[*subject.missing, *self.missing],
            warnings=self._warnings(subject, plan),
        )

    def _history(self) -> list[Epoch]:
        noted = epochs.noted_history(self.record.object("history"))
        if noted:
            return noted
        if (self.path / HISTORY).is_file():
            return self._attempt(epochs.read_history, self.path / HISTORY) or []
        if not self.state:
            self.missing.append(
                f"history: {self.path / HISTORY} is missing; the run writes it after each epoch"
            )
        return []

    def _scores(self, history: list[Epoch]) -> list[Score]:
        if self.metrics:
            found = [epochs.noted_score(stage, self.metrics.object(stage)) for stage in _STAGES]
            scores = [score for score in found if score is not None]
            if not starts_trained(self.recipe, self.record):
                scores = [score for score in scores if score.stage != "dense"]
                self.missing.append(
                    "dense accuracy: this run prunes an untrained network; gpmt compare trains a dense one with the "
                    "same budget"
                )
            if not self.metrics.object("pruned"):
                self.missing.append(
                    "accuracy right after pruning: this run prunes while it trains, so that there is no such moment"
                )
            return scores
        last = epochs.latest_score(history, "dense", "dense")
        return [last] if last is not None and starts_trained(self.recipe, self.record) else []

    def _latency(self) -> Latency | None:
        if not (self.path / BENCH).is_file():
            if not self.finished:
                return None
            self.missing.append(
                f"latency: it is not measured; gpmt bench {self.path} --json > {self.path / BENCH} does it"
            )
            return None
        found: Bench | None = self._attempt(read_bench, self.path / BENCH)
        if found is None:
            return None
        if not found.is_of(self.path):
            self.problems.append(
                f"{self.path / BENCH} is of {found.weights}, not of this run; gpmt bench {self.path} --json > "
                f"{self.path / BENCH} measures the run"
            )
            return None
        return found.latency

    def _with_weights(self, subject: Subject, plan: Document) -> Subject:
        """Return the subject with what model.pt and dense.pt tell, or the state of a run that goes on."""
        after, path = self._tensors(RESULT), self.path / RESULT
        if after is None and self.state:
            after, path = _plain(self.state.values.get("model")), self.path / STATE
            if self.state.text("phase") != "finetune" or not subject.layers:
                after = None
        before = self._tensors(DENSE)
        if not subject.layers and after is not None:
            layers = self._attempt(counted, after) or []
            subject = replace(subject, layers=layers)
        if before is None and subject.layers:
            self.missing.append(
                f"magnitudes before pruning: {self.path / DENSE}, the dense network, is missing; the run writes it"
            )
        if not subject.layers:
            return subject
        by_weights = subject.unit == "weights" and plan.text("ranked_by") in ("", "magnitude")
        if by_weights and subject.thresholds and subject.schedule not in ("", "one-shot"):
            self.missing.append(
                "magnitudes at the moment of pruning: this run prunes while it trains; shown are the network before "
                "that and the threshold of the last pruning"
            )
        path = path if after is not None else self.path / DENSE
        return with_weights(subject, Files(after, before, path), ranked=by_weights)

    def _tensors(self, name: str) -> Mapping[str, Tensor] | None:
        """Return the weights in a file of the run; None where it is missing or cannot be read."""
        path = self.path / name
        if not path.is_file():
            if self.finished and name == RESULT:
                self.missing.append(
                    f"channels, sizes and magnitudes after pruning: {path} is missing; the run wrote it"
                )
            return None
        found = self._attempt(load, path)
        return None if found is None else found.state_dict

    def _with_macs(self, subject: Subject) -> Subject:
        macs = self.metrics.object("macs")
        dense, sparse = macs.count("dense"), macs.count("sparse")
        if not dense:
            if self.metrics:
                self.missing.append(
                    "multiply-accumulates: the layers of this network are not counted; gpmt inspect --input SHAPE "
                    "counts what it can"
                )
            return subject
        layers = with_macs(subject.layers, macs.numbers("layers"))
        if all(layer.macs_dense is None for layer in layers):
            self.missing.append(
                f"multiply-accumulates of each layer: metrics.json has their total alone; gpmt inspect {self.path} "
                "shows them"
            )
        return replace(subject, layers=layers, macs_dense=dense, macs_sparse=sparse, macs_rule=MACS_RULE)

    def _warnings(self, subject: Subject, plan: Document) -> list[str]:
        found = dead_sentences(subject.layers, subject.unit)
        checks = self.metrics.object("verification").rows("checks")
        found += [
            ("verification failed: " if check.text("status") == "failed" else "") + check.text("message")
            for check in checks
            if check.text("status") in ("failed", "warning") and check.text("name") != "dead"
        ]
        if self.metrics.flag("verified") is False and len(found) == bool(subject.dead):
            found.append("the verification of the weights failed; gpmt verify says why")
        losses = [self.metrics.object(stage) for stage in _STAGES]
        if any("loss" in score and score.number("loss") is None for score in losses if score):
            found.append("training diverged: a loss is not finite; lower the learning rate")
        if not self.finished and (ended := ending(self.path / LOG)) is not None:
            word, rest = ended
            was = "was " if word in (INTERRUPTED, STOPPED) else ""
            found.append(f"the run {was}{word}{':' if word == DIVERGED else ''} {rest}")
        return found

    def _without_metrics(self) -> str:
        what = "accuracy of the result, multiply-accumulates, versions and machine"
        if self.finished:
            return f"{what}: {self.path / METRICS} cannot be read"
        return (
            f"{what}: the run has not finished, and writes them at its end; gpmt run {self.path / RECIPE} -o "
            f"{self.path} --resume goes on where it was stopped"
        )

    def _attempt(self, read: Any, *arguments: Any) -> Any:
        """Return what a reader returns; None where it raises, which is a problem of the report."""
        try:
            return read(*arguments)
        except GpmtError as error:
            self.problems.append(str(error))
            return None


def _plain(value: Any) -> Mapping[str, Tensor] | None:
    """Return a state_dict as far as it holds tensors."""
    if not isinstance(value, Mapping):
        return None
    return {name: tensor for name, tensor in value.items() if isinstance(tensor, Tensor)}
