"""What the weights of a subject tell: parameters that are not zero, histograms, channels and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from gpmt.core.blocks.block_names import blocks_by_name
from gpmt.core.blocks.blocks import WHOLE, Blocks
from gpmt.core.layers.axes import Axes, find_axes
from gpmt.core.memory import identity
from gpmt.report.content.channels import channel_map
from gpmt.report.content.histograms import MOST_BLOCKS, histograms
from gpmt.report.content.sizes import sizes_of
from gpmt.report.content.subject import ChannelMap, Histogram, Layer, Subject
from gpmt.report.content.wording import first_names

MOST_MAPS = 200
"""Tensors that have a map of their channels: those with the most outputs that are zero, then the largest."""
MOST_CHANNELS = 200_000
"""Channels in all maps together."""
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Files:
    """The weights of a subject.

    Attributes:
        after: name -> tensor after pruning; None where no file has it.
        before: likewise before pruning.
        path: the file of `after`, or else of `before`.
    """

    after: State | None
    before: State | None
    path: Path


def with_weights(subject: Subject, files: Files, *, ranked: bool = True) -> Subject:
    """Return a subject with what its weights tell.

    Args:
        subject: with its layers.
        files: its weights.
        ranked: whether its thresholds are magnitudes of weights.
    """
    found = _Measured(subject, files)
    shown = found.histograms(subject.thresholds if ranked else {})
    missing = [*subject.missing, *found.missing]
    if files.after is None:
        return replace(subject, histograms=shown, missing=missing)
    maps, untold = found.channels(files.after)
    sizes, unmeasured = sizes_of(files.after, files.path)
    parameters, nonzero = count_parameters(files.after)
    missing += [*untold, *unmeasured]
    if subject.parameters not in (None, parameters):
        missing.append(
            f"non-zero parameters: {files.path} has {parameters:,} values beside buffers, but the network "
            f"{subject.parameters:,} parameters; give the file that the run wrote"
        )
    whole = subject.parameters in (None, parameters)
    return replace(
        subject,
        layers=found.layers(files.after),
        histograms=shown,
        channels=maps,
        sizes=sizes,
        parameters=parameters if whole else subject.parameters,
        nonzero_parameters=nonzero if whole else None,
        missing=missing,
    )


def count_parameters(state: State) -> tuple[int, int]:
    """Count the parameters of a state_dict, and those that are not zero.

    Statistics of batch norms and what is not floating are no parameters. Tied tensors count once.

    >>> import torch
    >>> count_parameters({"a.weight": torch.tensor([1.0, 0.0]), "a.running_mean": torch.ones(2)})
    (2, 1)
    """
    single = {
        identity(tensor): tensor
        for name, tensor in state.items()
        if (tensor.is_floating_point() or tensor.is_complex()) and not name.endswith(_BUFFERS)
    }
    nonzero = sum(int(tensor.count_nonzero()) for tensor in single.values())
    return sum(tensor.numel() for tensor in single.values()), nonzero


@dataclass
class _Measured:
    """The tensors of a subject's layers, as they divide into blocks; `missing` says what is not known of them."""

    subject: Subject
    files: Files
    missing: list[str] = field(default_factory=list)
    divided: dict[str, Blocks] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        state = self.files.after if self.files.after is not None else self.files.before or {}
        names: dict[str, list[str]] = {}
        for layer in self.subject.layers:
            names.setdefault(layer.tensor, []).append(layer.name)
            self.kinds[layer.tensor] = layer.kind
        absent, whole = [], []
        for name, blocks in names.items():
            if name not in state or state[name].ndim < 2 or not state[name].is_floating_point():
                absent.append(name)
                continue
            told = WHOLE if len(blocks) == 1 else blocks_by_name(name, state[name], state) or WHOLE
            if told.names(name) != blocks:
                whole.append(name)
                told = WHOLE
            self.divided[name] = told
        if absent:
            self.missing.append(
                f"histograms and channels of {first_names(absent)}: {self.files.path} lacks them"
            )
        if whole:
            self.missing.append(
                f"histograms of the blocks of {first_names(whole)}: the files do not tell how they divide, so "
                "each tensor has one"
            )

    def histograms(self, thresholds: Mapping[str, float]) -> list[Histogram]:
        """Return the histograms of all layers and of the largest blocks."""
        before, after = self._blocks(self.files.before), self._blocks(self.files.after)
        if self.files.before is not None and before is None:
            self.missing.append(
                "magnitudes before pruning: the dense weights have other tensors than the pruned ones"
            )
        of_blocks = {
            layer.name: thresholds[layer.group or ""]
            for layer in self.subject.layers
            if (layer.group or "") in thresholds
        }
        blocks = len(after or before or ())
        if blocks > MOST_BLOCKS:
            self.missing.append(
                f"histograms of {blocks - MOST_BLOCKS:,} blocks: of {blocks:,}, the {MOST_BLOCKS} largest have one"
            )
        return histograms(before, after, threshold=thresholds.get(""), thresholds=of_blocks)

    def _blocks(self, state: State | None) -> dict[str, Tensor] | None:
        """Return the blocks of weights as views, by name; None where they are not those of the layers."""
        if state is None:
            return None
        alike = self.files.after if self.files.after is not None else state
        found: dict[str, Tensor] = {}
        for name, blocks in self.divided.items():
            tensor = state.get(name)
            if tensor is None or tensor.shape != alike[name].shape or not tensor.is_floating_point():
                return None
            found |= dict(zip(blocks.names(name), blocks.views(tensor.detach()), strict=True))
        return found

    def channels(self, state: State) -> tuple[list[ChannelMap], list[str]]:
        """Return the maps of the tensors that lost most outputs, in the order of the network, and what is missing."""
        lost = dict.fromkeys(self.divided, 0)
        for layer in self.subject.layers:
            if layer.tensor in lost and layer.outputs is not None and layer.live_outputs is not None:
                lost[layer.tensor] += layer.outputs - layer.live_outputs
        first = sorted(lost, key=lambda name: (-lost[name], -state[name].numel()))[:MOST_MAPS]
        room, chosen = MOST_CHANNELS, set()
        for name in first:
            axes = self._axes(name, state)
            layers, outputs, inputs, _ = axes.sizes(state[name].shape)
            if axes.told and layers * (outputs + inputs) <= room:
                room -= layers * (outputs + inputs)
                chosen.add(name)
        maps = [channel_map(name, state[name], self._axes(name, state)) for name in lost if name in chosen]
        left = len(lost) - len(maps)
        untold = f"channels of {left:,} tensors: of {len(lost):,}, those with most outputs without weights are shown"
        return maps, [untold] if left else []

    def layers(self, state: State) -> list[Layer]:
        """Return the layers, with the live outputs of those that are one of several blocks of a tensor."""
        live: dict[str, tuple[int, int]] = {}
        for name, blocks in self.divided.items():
            axes = self._axes(name, state) if blocks.splits else None
            if axes is not None and axes.told:
                views = zip(
                    blocks.names(name),
                    blocks.shapes(state[name].shape),
                    blocks.views(state[name].detach()),
                    strict=True,
                )
                for block, shape, view in views:
                    counts = channel_map(block, view.reshape(shape), axes).kept_by_output
                    live[block] = len(counts), sum(count > 0 for count in counts)
        return [
            replace(layer, outputs=live[layer.name][0], live_outputs=live[layer.name][1])
            if layer.name in live
            else layer
            for layer in self.subject.layers
        ]

    def _axes(self, name: str, state: State) -> Axes:
        return find_axes(name, self.kinds[name], tuple(state[name].shape), None, state)
