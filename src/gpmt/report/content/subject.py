"""One pruned network as a report tells of it: a run, a plan, or a file of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["run", "plan", "file"]
Stage = Literal["dense", "pruned", "recalibrated", "finetuned"]


@dataclass(frozen=True)
class Layer:
    """One block of weights: a layer, or one of several that a tensor holds.

    Attributes:
        name: its name, as plans print it.
        tensor: the name of its tensor; several blocks may share it.
        kind: the class of its layer, such as Conv2d; empty where only the tensor is known.
        shape: of the block; empty where only its size is known.
        numel, kept: how many units (weights unless the subject says otherwise) it has, and how many are not pruned.
        floor: how many it keeps at least; None where no plan is known.
        binds: whether the floor decided how many it keeps; None where that is not known.
        group: what the blocks that share its budget have in common; None for the whole network.
        outputs, live_outputs: filters or rows, and those with any weight that is not zero; None if not counted.
        macs_dense, macs_sparse: multiply-accumulates for one input, with all weights and without zeros.
        collapsed: whether its tensor keeps weights, but in fewer than a tenth of its outputs, as ``gpmt verify``
            says; False where that is not counted.
    """

    name: str
    tensor: str
    kind: str
    shape: tuple[int, ...]
    numel: int
    kept: int
    floor: int | None = None
    binds: bool | None = None
    group: str | None = None
    outputs: int | None = None
    live_outputs: int | None = None
    macs_dense: int | None = None
    macs_sparse: int | None = None
    collapsed: bool = False

    @property
    def density(self) -> float:
        """Fraction kept."""
        return self.kept / max(self.numel, 1)

    @property
    def dead(self) -> bool:
        """Whether it had weights and keeps none."""
        return self.kept == 0 < self.numel


@dataclass(frozen=True)
class Histogram:
    """How many weights have which magnitude, in bins of log10 |w|.

    Attributes:
        name: a block, or "" for all weights in scope.
        edges: the n + 1 ends of the bins, as log10 |w|, ascending.
        before: weights in each bin before pruning; None where only the pruned weights are known.
        after: weights in each bin that are not zero after pruning; None where only the weights before are known.
        zeros_before, zeros_after: weights that are exactly zero, which are in no bin.
        threshold: the magnitude of the smallest weight that the ranking keeps; None where there is not one.
    """

    name: str
    edges: tuple[float, ...]
    before: tuple[int, ...] | None
    after: tuple[int, ...] | None
    zeros_before: int = 0
    zeros_after: int = 0
    threshold: float | None = None


@dataclass(frozen=True)
class ChannelMap:
    """Which outputs (filters, rows) and inputs (channels, columns) of a tensor have any weight that is not zero.

    `kept_by_output` and `kept_by_input` are the numbers of such weights of each of them, in order.
    """

    tensor: str
    kept_by_output: tuple[int, ...]
    kept_by_input: tuple[int, ...]


@dataclass(frozen=True)
class Epoch:
    """What was measured at the end of an epoch.

    `number` counts from 0, the state before training, in its phase. `values` has the columns of history.csv that are
    known: ``test_top1``, ``test_top5``, ``test_loss``, ``train_top1``, ``train_loss``, ``lr``, ``sparsity``,
    ``images_per_second``, ``seconds`` and, where batch norms were recalibrated, ``recalibrated_top1`` and so on.
    """

    phase: Literal["dense", "finetune"]
    number: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Score:
    """An evaluation on the test data; accuracies are fractions, None where they are not measured."""

    stage: Stage
    top1: float | None
    top5: float | None = None
    loss: float | None = None
    images: int | None = None


@dataclass(frozen=True)
class Sizes:
    """Bytes of the weights: dense, dense and compressed by gzip, and as a sparse file; None where not measured."""

    dense: int | None = None
    gzip: int | None = None
    sparse: int | None = None


@dataclass(frozen=True)
class Latency:
    """Measured milliseconds of one batch, dense in PyTorch and sparse in gpmt's runtime, and on which processor."""

    dense_ms: float
    sparse_ms: float
    batch: int
    cpu: str


@dataclass(frozen=True)
class Subject:
    """One pruned network.

    Attributes:
        kind, title, path: what it is, what it is called, and the path that was given.
        finished: False for a run that is still going on or was stopped.
        asked: the sparsity asked for, as the request wrote it; "" if not known.
        numel, kept: units in the scope, and those that are not pruned.
        unit: what is counted: weights, rows, columns and so on.
        parameters, nonzero_parameters: of the whole network, biases and norms too; None if not known.
        scope: what is in the scope, in a sentence; "" if not known.
        minimum: the minimum asked for, as the request wrote it; "" for none.
        thresholds: by label of the group ("" for the whole network), the smallest magnitude that its ranking keeps.
        schedule, method, allocation: their names; "" if not known.
        layers, histograms, channels, history, scores: see their classes; in the order of the network or of time.
        macs_dense, macs_sparse: multiply-accumulates of the network for one input, with all weights and without
            zeros; None where they are not counted.
        macs_rule: how they are counted, in a sentence; "" where they are not.
        epochs: of training, by phase, as asked for; empty for plans and files.
        seconds: measured times, by phase.
        recipe: all settings of the run, nested; those of the request for a plan; empty for files.
        missing: what this subject cannot tell and why, a sentence each ("accuracy: a plan has none").
        warnings: what is wrong with it, a sentence each: dead layers, failed checks, diverged training.
    """

    kind: Kind
    title: str
    path: str
    finished: bool = True
    asked: str = ""
    numel: int = 0
    kept: int = 0
    unit: str = "weights"
    parameters: int | None = None
    nonzero_parameters: int | None = None
    scope: str = ""
    minimum: str = ""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    schedule: str = ""
    method: str = ""
    allocation: str = ""
    layers: Sequence[Layer] = ()
    histograms: Sequence[Histogram] = ()
    channels: Sequence[ChannelMap] = ()
    history: Sequence[Epoch] = ()
    scores: Sequence[Score] = ()
    sizes: Sizes = Sizes()
    latency: Latency | None = None
    macs_dense: int | None = None
    macs_sparse: int | None = None
    macs_rule: str = ""
    seed: int | None = None
    verified: bool | None = None
    epochs: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    commands: Sequence[str] = ()
    missing: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def sparsity(self) -> float:
        """Fraction of the units in the scope that is pruned."""
        return 1 - self.kept / max(self.numel, 1)

    @property
    def dead(self) -> list[Layer]:
        """The layers that had weights and keep none."""
        return [layer for layer in self.layers if layer.dead]

    @property
    def collapsed(self) -> list[str]:
        """The tensors that keep weights, but in fewer than a tenth of their outputs."""
        return list(dict.fromkeys(layer.tensor for layer in self.layers if layer.collapsed))

    @property
    def binding(self) -> list[Layer]:
        """The layers whose floor decided how many weights they keep."""
        return [layer for layer in self.layers if layer.binds]

    def score(self, stage: Stage) -> Score | None:
        """Return the evaluation at a stage, None if there is none."""
        return next((score for score in self.scores if score.stage == stage), None)
