"""`compensate`: prune with given masks, and change the kept weights so that the layers' outputs stay near."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from gpmt.calibration.applications import Part, laid_out_like
from gpmt.calibration.inputs import Inputs, wide, wide_device
from gpmt.calibration.layer_inputs import LayerInputs, followers, in_order, survey, visit, without_inputs
from gpmt.compensation.solvers import SOLVERS, damped
from gpmt.core.missing_data import check_has_data
from gpmt.core.scope.scope import find_scope
from gpmt.errors import CalibrationError, MaskError, WeightsError
from gpmt.masks import Masks
from gpmt.model_tools import plain_name, unwrap
from gpmt.suggestions import did_you_mean
from gpmt.warning import warn

Solver = Literal["auto", "sparsegpt", "exact"]

SMALLEST_DAMPING = 1e-6
"""With less, rounding may make a matrix of calibration indefinite, in the middle of the network."""
_MEMORY = 1 << 30
"""Bytes of the matrices of several experts of one tensor that are gathered in the same run of the network."""


@dataclass(frozen=True)
class CompensatedLayer:
    """What compensation did for one tensor.

    Attributes:
        name: of the tensor.
        positions: how many vectors of inputs it was measured on.
        masked: squared error of its outputs where pruned weights are zero and nothing else changes, relative to the
            squared outputs of the dense weights without their bias.
        compensated: the same with the new weights; never more than `masked`.
    """

    name: str
    positions: int
    masked: float
    compensated: float


@dataclass(frozen=True)
class Compensation:
    """What compensation did, layer by layer in the order of the network.

    >>> print(Compensation((CompensatedLayer("fc.weight", 128, 0.25, 0.0625),)))
    tensor     positions   masked  compensated
    fc.weight        128  25.000%       6.250%
    """

    layers: tuple[CompensatedLayer, ...]

    def __str__(self) -> str:
        width = max(6, *(len(layer.name) for layer in self.layers))
        rows = [f"{'tensor':{width}}  positions   masked  compensated"]
        rows += [
            f"{layer.name:{width}}  {layer.positions:9,}  {layer.masked:7.3%}  {layer.compensated:11.3%}"
            for layer in self.layers
        ]
        return "\n".join(rows)


Progress = Callable[[CompensatedLayer, int, int], None]
"""Called after each layer with what was done, its number from 1, and the number of layers."""


def compensate(
    model: nn.Module,
    masks: Masks | Mapping[str, Tensor],
    batches: Iterable[Any],
    *,
    damping: float = 0.01,
    solver: Solver = "auto",
    progress: Progress | None = None,
) -> Compensation:
    """Prune a network with given masks, and let the kept weights make up for the pruned ones, in place.

    Give it the dense weights: what is zero already has nothing to make up for. For every output of a layer, the
    kept weights change so that its values on the batches stay near those of the dense weights, as in SparseGPT
    (Frantar & Alistarh 2023), but under the masks of the caller: pruned weights are exactly +0.0 afterwards, and no
    others are pruned. Layers are done in the order in which the network runs, each on the outputs of those before
    it as they are by then. An output for which the new weights would be worse on the batches than the old ones under
    the mask keeps the old ones.

    Nothing is trained and no labels are needed; a few hundred samples that look like the training data do. Networks
    with batch normalisation need `gpmt.recalibrate` as well, **afterwards**: compensation takes the running
    statistics as they are, and they fit the outputs of the dense layers.

    Memory: besides the network, about five matrices [inputs, inputs] of one layer in float64. Time: the network
    runs on the batches once for each layer, up to that layer. Experts of one stack are done together as far as their
    matrices fit into 1 GiB.

    Args:
        model: a network of dense weights (wrappers are taken off).
        masks: `Masks`, as `Plan.masks` returns, or bool tensors by name, True = kept; not for embeddings.
        batches: what the network is run on, in evaluation mode: a list or a data loader that can be read again and
            again. A batch is a tensor, a tuple (inputs, target) or a dict of arguments; padding tokens count too.
        damping: λ as a share of the mean squared input of the layer, at least 0.000001: the larger, the less the
            weights change. Use more where there is little data.
        solver: "exact", the best weights by least squares, at k³/3 multiplications for an output that keeps k
            weights; "sparsegpt", which costs as much as a few products of the layer's matrices, but makes up for
            less, for little at high sparsities; or "auto", which takes "exact" where a layer needs no more than 10¹¹
            multiplications: most convolutions, and layers that keep few weights.
        progress: called after each layer, see `Progress`.

    Returns:
        The errors of each layer with and without compensation.

    Raises:
        MaskError: masks that do not fit the network.
        ScopeError: tensors that cannot be pruned as they are.
        WeightsError: NaN or infinite weights, or weights without data.
        CalibrationError: the network does not run on the batches, a layer did not run or cannot be seen, a damping
            or solver that there is not.

    All this is checked, and the network run on all batches, before anything is changed.

    >>> import torch, gpmt
    >>> _ = torch.manual_seed(0)
    >>> layer, data = torch.nn.Linear(64, 8), torch.randn(256, 16) @ torch.randn(16, 64)
    >>> report = gpmt.compensate(layer, gpmt.plan(layer, sparsity=0.5).masks(), [data])
    >>> report.layers[0].compensated < report.layers[0].masked / 10, int((layer.weight == 0).sum())
    (True, 256)
    """
    solve = SOLVERS.get(solver)
    if solve is None:
        raise CalibrationError(f"solver {solver!r} is unknown; {did_you_mean(str(solver), SOLVERS)}")
    _check_damping(damping)
    if isinstance(batches, Iterator):
        raise CalibrationError(
            "batches is an iterator, which gives its batches only once, but every layer needs them; give a list or a "
            "data loader"
        )
    network = unwrap(model)
    masks = masks if isinstance(masks, Masks) else Masks.from_dense(masks)
    tensors = _masked_tensors(network, masks)
    found = survey(network, tensors, batches)
    _check_parts(tensors, masks, found)
    names, done = in_order(found), []
    for number, name in enumerate(names, 1):
        tensor, kept = tensors[name], laid_out_like(tensors[name], torch.bool)
        kept.copy_(masks[name])
        errors = torch.zeros(3, dtype=torch.float64, device="cpu")
        until = followers(found, name)
        for parts in _jobs(found[name]):
            grams = _gather(network, name, tensors, batches, parts, until)
            while grams:
                part, (gram, positions) = grams.popitem()
                if positions:
                    try:
                        errors += _compensate_part(
                            part.of(tensor), part.of(kept), damped(gram, positions, damping), gram, solve
                        )
                    except LinAlgError:
                        raise CalibrationError(
                            f"the inputs of {name} are too few or too much alike for a damping of {damping:g}; give "
                            f"more data or a larger damping, and load the network again: the {number - 1} layers "
                            "before this one are changed already"
                        ) from None
        _write(tensor, torch.where(kept, tensor.detach(), 0))
        energy, masked, compensated = errors.tolist()
        layer = CompensatedLayer(
            name,
            sum(found[name].positions.values()),
            masked / energy if energy else 0.0,
            compensated / energy if energy else 0.0,
        )
        done.append(layer)
        if progress is not None:
            progress(layer, number, len(names))
    return Compensation(tuple(done))


def _compensate_part(
    weights: Tensor,
    kept: Tensor,
    hessian: Tensor,
    gram: Tensor,
    solve: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """Change one part of a tensor; return the squares of its outputs, and the errors without and with the change."""
    old, keep = wide(weights.flatten(2)), kept.flatten(2).to(gram.device)
    masked = torch.where(keep, old, 0.0)
    new = solve(old, keep, hessian).to(weights.dtype).to(old)
    before, after = _squares(masked - old, gram), _squares(new - old, gram)
    better = after < before
    new = torch.where(better[..., None], new, masked)
    _write(weights, new.view(weights.shape))
    sums = _squares(old, gram).sum(), before.sum(), torch.where(better, after, before).sum()
    return torch.stack(sums).cpu()


def _squares(weights: Tensor, gram: Tensor) -> Tensor:
    """Return the sum of the squared outputs of each row, [blocks, outputs]."""
    return ((weights @ gram) * weights).sum(-1).clamp(min=0.0)


def _write(tensor: Tensor, values: Tensor) -> None:
    # Tensors made in inference mode can be written to only in that mode.
    with torch.no_grad(), torch.inference_mode() if tensor.is_inference() else nullcontext():
        tensor.copy_(values)


def _gather(
    network: nn.Module,
    name: str,
    tensors: Mapping[str, Tensor],
    batches: Iterable[Any],
    parts: list[Part],
    until: set[str],
) -> dict[Part, tuple[Tensor, int]]:
    """Return XXᵀ of some parts of one tensor, float64 [blocks, inputs, inputs], and the number of vectors in it."""
    device = wide_device(tensors[name])
    grams = {part: (_matrices(part, device), 0) for part in parts}

    def seen(_name: str, part: Part, inputs: Inputs) -> None:
        if part in grams:
            gram, positions = grams[part]
            for piece in inputs.pieces():
                gram.baddbmm_(piece.mT, piece)
            grams[part] = gram, positions + inputs.positions

    visit(network, name, tensors, batches, seen, until=until)
    return grams


def _matrices(part: Part, device: torch.device) -> Tensor:
    inputs = math.prod(part.shape[2:])
    return torch.zeros(part.shape[0], inputs, inputs, dtype=torch.float64, device=device)


def _jobs(layer: LayerInputs) -> Iterator[list[Part]]:
    """Divide the parts of a tensor into those whose matrices are gathered together."""
    job: list[Part] = []
    size = 0
    for part in layer.squares:
        bytes_ = 8 * part.shape[0] * math.prod(part.shape[2:]) ** 2
        if job and size + bytes_ > _MEMORY:
            yield job
            job, size = [], 0
        job.append(part)
        size += bytes_
    yield job


def _check_damping(damping: object) -> None:
    number = isinstance(damping, int | float) and not isinstance(damping, bool)
    if not number or not SMALLEST_DAMPING <= damping < math.inf:  # type: ignore[operator]
        raise CalibrationError(
            f"damping is {damping!r}, but must be a number of at least {SMALLEST_DAMPING:f}; 0.01 is usual"
        )


def _masked_tensors(network: nn.Module, masks: Masks) -> dict[str, Tensor]:
    """Return the tensors of a network that masks are for, once it is sure that they can be changed."""
    masks.fits(network)
    if not masks:
        raise MaskError("there are no masks, so there is nothing to prune; give those of a plan")
    named: dict[str, Tensor] = dict(network.named_parameters(remove_duplicate=False))
    plain = {plain_name(name): name for name in named}
    own = {name: name if name in named else plain[plain_name(name)] for name in masks}
    tensors = {name: named[own[name]] for name in masks}
    check_has_data(tensors)
    find_scope(network, scope=list(own.values()))
    for name, tensor in tensors.items():
        if not bool(tensor.detach().isfinite().all()):
            raise WeightsError(f"{name} has weights that are NaN or infinite; load the network again")
    return tensors


def _check_parts(tensors: Mapping[str, Tensor], masks: Masks, found: Mapping[str, LayerInputs]) -> None:
    makes_up = False
    for name, tensor in tensors.items():
        if bool((found[name].uses(tensor) > 1).any()):
            raise CalibrationError(
                f"{name} is used both as a whole and in parts, with other inputs, so that no one matrix "
                "tells how its weights act together; leave it out of the masks"
            )
        makes_up = makes_up or bool(tensor.detach()[~masks[name].to(tensor.device)].any())
    if not makes_up:
        warn(
            "all weights that the masks prune are zero already, so there is nothing to make up for; compensate needs "
            "the dense weights"
        )
    if idle := without_inputs(tensors, found):
        warn(f"{idle}, so they are only masked; give more data")
