"""Measuring: each block pruned alone at each sparsity, all else dense, and the loss of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.calibration.batches import Batch, Loss, calibrating, each_batch, loss_of, run
from gpmt.core.blocks.blocks import BlockRule
from gpmt.core.budget.budget import Ratio, parse_sparsity, pruned_count
from gpmt.core.budget.first_match import Named, first_matches
from gpmt.core.layers.layers import BATCH_NORMS
from gpmt.core.patterns import Pattern, Patterns, listed
from gpmt.errors import BudgetError, CalibrationError
from gpmt.masks import Masks
from gpmt.model_tools import logits_of, plain_name, unwrap
from gpmt.planning.decide import decide
from gpmt.planning.plan import Plan
from gpmt.planning.request import Target
from gpmt.planning.rows import BlockPlan
from gpmt.recalibration import recalibrate as recalibrate_norms
from gpmt.sensitivities.result import BlockCurve, Cell, Measured, Sensitivity

SPARSITIES = ("50%", "70%", "80%", "90%", "95%", "98%", "99%")
"""The sparsities that are measured where none are asked for."""

_SAME = 1e-3
"""Relative difference of two measurements of the dense network up to which the data count as the same."""

Tell = Callable[[str, Fraction, int, int], None]


def sensitivity(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    sparsities: Sequence[Ratio] = SPARSITIES,
    only: Patterns | None = None,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
    blocks: Mapping[str, BlockRule] | None = None,
    loss: Loss | None = None,
    recalibrate: bool | Iterable[Any] | None = None,
    resume: Sensitivity | None = None,
    on_block: Callable[[Sensitivity], None] = lambda found: None,
    on_cell: Tell = lambda name, sparsity, number, count: None,
) -> Sensitivity:
    """Measure how much each block of a network can be pruned: alone, by magnitude, all else dense.

    Every block (a tensor, or a layer inside one) is pruned to every sparsity, exactly floor(sparsity · n) of its n
    weights, the smallest; then the loss and the accuracy are measured, and all weights and buffers are put back bit
    by bit. It takes one evaluation for each block and sparsity, two with recalibration on all batches. Such curves
    are often drawn (Han et al. 2015, arXiv 1506.02626, fig. 6; Li et al. 2017, arXiv 1608.08710, fig. 2).

    Args:
        model: a network on any device; it is run in evaluation mode without gradients.
        batches: a list or data loader, read again for each cell, as `gpmt.scores.taylor` takes it: (inputs, target),
            or mappings with labels. Some hundred samples do; take none of the test data if the result chooses a plan.
        sparsities: fractions of the weights of a block, above 0 and below 1.
        only: patterns of the blocks to measure; by default all of the scope.
        scope, exclude, blocks: what can be pruned and how it divides, as in `gpmt.plan`.
        loss: of the output and the target, a scalar; by default the network's own, or the cross entropy.
        recalibrate: measure the statistics of batch normalisation again in each cell, on the batches, or on others
            that are given in place of True; by default where there are such layers.
        resume: what was measured before with the same settings; its blocks are not measured again.
        on_block: called with what there is so far after each block, to save it.
        on_cell: called before each cell with the block, the sparsity, its number from 1, and how many there are.

    Raises:
        CalibrationError: no batches, batches that the network does not run on, or a loss that is not finite; or
            `resume` of another network, other data or settings.
        BudgetError: a sparsity that is none, or a pattern that matches nothing.
        ScopeError, WeightsError: as from `gpmt.plan`.

    The network is as before in any case, also after an error or an interrupt.

    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> inputs = torch.randn(16, 4)
    >>> found = sensitivity(model, [(inputs, model(inputs).argmax(1))], sparsities=[0.5, 0.9])
    >>> [(curve.name, [cell.kept for cell in curve.cells]) for curve in found.curves]
    [('0.weight', [16, 4]), ('2.weight', [8, 2])]
    >>> found.dense.top1, found.suggest(model, 0.75).pruned
    (1.0, 36)
    """
    network = unwrap(model)
    return measure(
        network,
        batches,
        network,
        sparsities=sparsities,
        only=only,
        scope=scope,
        exclude=exclude,
        blocks=blocks,
        loss=loss,
        recalibrate=recalibrate,
        resume=resume,
        on_block=on_block,
        on_cell=on_cell,
    )


def measure(
    network: nn.Module,
    batches: Iterable[Any],
    target: Target,
    *,
    sparsities: Sequence[Ratio] = SPARSITIES,
    only: Patterns | None = None,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
    blocks: Mapping[str, BlockRule] | None = None,
    loss: Loss | None = None,
    recalibrate: bool | Iterable[Any] | None = None,
    resume: Sensitivity | None = None,
    settings: Mapping[str, str | int | None] | None = None,
    own_masks: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = lambda masks: masks,
    on_block: Callable[[Sensitivity], None] = lambda found: None,
    on_cell: Tell = lambda name, sparsity, number, count: None,
) -> Sensitivity:
    """Measure as `sensitivity` does, where the weights that are planned for may be other tensors than are run.

    Args:
        network: what is run.
        target: whose blocks are named and ranked: the network, or the tensors of its file.
        own_masks: masks of tensors of `target` -> masks of the network's.
        settings: kept in the result.
    """
    base = decide(target, [0], scope=scope, exclude=exclude, blocks=blocks)[0]
    rows = _chosen(base, only)
    wanted = _sparsities(sparsities)
    norms = any(isinstance(part, BATCH_NORMS) and part.track_running_stats for part in network.modules())
    again: Iterable[Any] | None = None
    if recalibrate is None or isinstance(recalibrate, bool):
        again = batches if norms and recalibrate is not False else None
    elif norms:
        again = recalibrate
    meter = _Meter(network, batches, loss, again)
    found = Sensitivity(
        Measured(0.0, None),
        (),
        tuple(row.name for row in rows),
        wanted,
        base.numel,
        0,
        again is not None,
        fingerprint(network),
        dict(settings or {}),
    )
    if resume is not None:
        check_same(resume, found)
        if resume.complete:
            return resume
    dense = meter.measure()
    found = replace(found, dense=dense, samples=meter.samples)
    if resume is not None:
        _check_same_data(resume, found)
        found = resume
    count = len(rows) * len(wanted)
    for place in range(len(found.curves), len(rows)):
        cells: list[Cell] = []
        for number, sparsity in enumerate(wanted, 1):
            on_cell(rows[place].name, sparsity, place * len(wanted) + number, count)
            cells.append(_cell(meter, base, rows[place], sparsity, cells, target, own_masks))
        curve = BlockCurve(rows[place].name, rows[place].numel, tuple(cells))
        found = replace(found, curves=(*found.curves, curve))
        on_block(found)
    return found


def fingerprint(network: nn.Module) -> str:
    """Return the SHA-256 (hex) of the names, types, shapes and bits of all parameters and buffers of a network."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, Tensor):
            values = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(f"{plain_name(name)} {values.dtype} {list(tensor.shape)}\n".encode())
            digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_same(resume: Sensitivity, found: Sensitivity) -> None:
    """Raise `CalibrationError` where what was measured before is not what is to be measured now."""
    for what, before, now in (
        *((name, _given(resume.settings.get(name)), _given(now)) for name, now in found.settings.items()),
        ("list of sparsities", _listed(resume.sparsities), _listed(found.sparsities)),
        ("recalibration", _on(resume.recalibrated), _on(found.recalibrated)),
        ("list of blocks", _names(resume.blocks), _names(found.blocks)),
        ("number of prunable weights", f"{resume.numel:,}", f"{found.numel:,}"),
    ):
        if before != now:
            raise CalibrationError(
                f"the {what} was {before} when it was measured, and is {now} now; go on with the same settings, or "
                "measure all anew"
            )
    if resume.network != found.network:
        raise CalibrationError(
            "the weights are not those that were measured; give the same network, or measure all anew"
        )


def _check_same_data(resume: Sensitivity, found: Sensitivity) -> None:
    before, now = resume.dense.loss, found.dense.loss
    if resume.samples != found.samples or abs(before - now) > _SAME * max(abs(before), _SAME):
        raise CalibrationError(
            f"the dense network had a loss of {before:.6g} on {resume.samples:,} samples when it was measured, and "
            f"has {now:.6g} on {found.samples:,} now; give the same data, or measure all anew"
        )


def _chosen(base: Plan, only: Patterns | None) -> list[BlockPlan]:
    """Return the blocks that are measured."""
    rows = [(tensor, row) for tensor in base.tensors for row in tensor.blocks if row.numel]
    patterns = list(listed(only))
    if only is None or not patterns:
        return [row for _, row in rows]
    names = [
        Named(row.name, (tensor.name, *base.aliases.get(tensor.name, ())), tensor.kind)
        for tensor, row in rows
    ]
    chosen = first_matches([_text(pattern) for pattern in patterns], names, role="the blocks to measure")
    return [row for (_, row), rule in zip(rows, chosen, strict=True) if rule is not None]


def _text(pattern: Pattern) -> str:
    return pattern if isinstance(pattern, str) else f"type:{pattern.__name__}"


def _sparsities(values: Sequence[Ratio]) -> tuple[Fraction, ...]:
    found = tuple(sorted({parse_sparsity(value) for value in values}))
    if not found or not found[0]:
        what = "has 0, at which nothing is pruned" if found else "is empty"
        raise BudgetError(f'sparsities {what}; give one or more above 0, such as "90%"')
    return found


def _cell(
    meter: _Meter,
    base: Plan,
    row: BlockPlan,
    sparsity: Fraction,
    before: Sequence[Cell],
    target: Target,
    own_masks: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
) -> Cell:
    """Return one cell; where small blocks keep as many weights as at the sparsity before, that is the same."""
    kept = max(row.numel - pruned_count(sparsity, row.numel), row.floor)
    if before and before[-1].kept == kept:
        return replace(before[-1], sparsity=sparsity)
    rows = [replace(one, kept=kept, cut=None) if one is row else one for one in base.blocks]
    masks = base.replaced(rows).bound(target).masks()
    [tensor] = [one.name for one in base.tensors if any(block is row for block in one.blocks)]
    try:
        found = meter.measure(Masks.from_dense(own_masks({tensor: masks[tensor]})))
    except CalibrationError as error:
        raise CalibrationError(f"with {row.name} pruned to {100 * float(sparsity):g}%, {error}") from error
    return Cell(found.loss, found.top1, sparsity, kept)


class _Meter:
    """Measures a network on batches, and leaves it as it was."""

    def __init__(
        self, network: nn.Module, batches: Iterable[Any], loss: Loss | None, again: Iterable[Any] | None
    ) -> None:
        self._network, self._batches, self._loss, self._again = network, batches, loss, again
        self.samples = 0

    def measure(self, masks: Masks | None = None) -> Measured:
        """Return loss and accuracy, with some weights pruned."""
        pruned = {plain_name(name) for name in masks or ()}
        parameters = self._network.named_parameters(remove_duplicate=False)
        changed = [tensor for name, tensor in parameters if plain_name(name) in pruned]
        with _restoring([*changed, *self._network.buffers()]):
            if masks is not None:
                masks.apply_(self._network)
            if self._again is not None:
                recalibrate_norms(self._network, self._again)
            return self._run()

    def _run(self) -> Measured:
        total, hits, self.samples = 0.0, 0, 0
        classes = True
        with calibrating(self._network):
            for batch in each_batch(self._network, self._batches):
                output = run(self._network, batch)
                count = _samples(batch)
                total += float(loss_of(output, batch, self._loss)) * count
                right = _right(output, batch)
                classes = classes and right is not None
                hits += right or 0
                self.samples += count
        return Measured(total / self.samples, hits / self.samples if classes else None)


@contextmanager
def _restoring(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Put the values of tensors back at the end of the block, bit by bit."""
    before = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, values in zip(tensors, before, strict=True):
                tensor.copy_(values)


def _samples(batch: Batch) -> int:
    """Return how many samples a batch holds: the first dimension of its first tensor."""
    inputs: list[Any] = [*batch.args, *batch.kwargs.values()]
    while inputs:
        one = inputs.pop(0)
        if isinstance(one, Tensor):
            if one.ndim:
                return len(one)
        elif isinstance(one, Mapping | list | tuple):
            inputs = [*(one.values() if isinstance(one, Mapping) else one), *inputs]
    raise CalibrationError(f"batch {batch.number} holds no tensor of inputs; give (inputs, target)")


def _right(output: Any, batch: Batch) -> int | None:
    """Return how many samples get their class as the most likely one; None where the targets are no classes."""
    logits, target = logits_of(output), batch.target
    if target is None:
        target = batch.kwargs.get("labels")
    if not isinstance(target, Tensor) or target.dtype != torch.int64 or target.ndim != 1:
        return None
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        return None
    return int((logits.argmax(1) == target.to(logits.device)).sum())


def _given(setting: str | int | None) -> str:
    return "not given" if setting is None else str(setting)


def _listed(sparsities: Sequence[Fraction]) -> str:
    return ", ".join(f"{100 * float(sparsity):g}%" for sparsity in sparsities)


def _on(flag: bool) -> str:
    return "on" if flag else "off"


def _names(names: Sequence[str]) -> str:
    return f"{len(names):,} ({names[0]} ... {names[-1]})" if len(names) > 1 else names[0]
