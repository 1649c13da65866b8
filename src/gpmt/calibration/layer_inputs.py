"""What the layers of a network are given: statistics of all at once, or the inputs of one layer after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.calibration.applications import Part, Seen, Watch, laid_out_like
from gpmt.calibration.batches import calibrating, each_batch, run
from gpmt.calibration.inputs import Inputs
from gpmt.calibration.prunable import prunable
from gpmt.core.patterns import Patterns
from gpmt.core.scope.scope import Scope
from gpmt.errors import CalibrationError
from gpmt.warning import warn

_LISTED = 3
"""Names in one message."""


@dataclass
class LayerInputs:
    """What one tensor of weights was multiplied with.

    Attributes:
        squares: part -> sums over all positions of the squared inputs, float64 [blocks, inputs of one output].
        positions: part -> how many vectors it was applied to.
        spans: batch -> the first and the last of its applications, numbered in the order of all; batches in which
            it ran.
    """

    squares: dict[Part, Tensor] = field(default_factory=dict)
    positions: dict[Part, int] = field(default_factory=dict)
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)

    def norms(self, weights: Tensor) -> Tensor:
        """Return the 2-norm over all positions of each weight's input, in its shape; 0 where it had none."""
        total = laid_out_like(weights, torch.promote_types(weights.dtype, torch.float32))
        for part, squares in self.squares.items():
            view = part.of(total)
            view += squares.view(len(squares), 1, *part.shape[2:]).to(view)
        return total.sqrt_()

    def uses(self, weights: Tensor) -> Tensor:
        """Return in how many parts each weight is, uint8 in its shape."""
        count = laid_out_like(weights, torch.uint8)
        for part in self.squares:
            view = part.of(count)
            view += 1
        return count


def survey(model: nn.Module, tensors: Mapping[str, Tensor], batches: Iterable[Any]) -> dict[str, LayerInputs]:
    """Run all batches once, and return what each tensor of weights was multiplied with.

    All positions count alike: those of padding tokens too, whatever the attention mask says.

    Args:
        model: a network, which is run in evaluation mode.
        tensors: parameters of it by name.
        batches: as `each_batch` takes them.

    Raises:
        CalibrationError: a tensor was seen in no batch, inputs are not finite, or the network does not run.
    """
    found = {name: LayerInputs() for name in tensors}
    count, number = 0, 0

    def seen(name: str, part: Part, inputs: Inputs) -> None:
        nonlocal count
        layer, squares = found[name], inputs.squares()
        layer.squares[part] = layer.squares[part] + squares if part in layer.squares else squares
        layer.positions[part] = layer.positions.get(part, 0) + inputs.positions
        layer.spans[number] = (layer.spans.get(number, (count, count))[0], count)
        count += 1

    with _visible(model):
        for batch in each_batch(model, batches):
            number = batch.number
            with Watch(tensors, seen):
                run(model, batch)
    _check_seen(tensors, found)
    for name in in_order(found):
        if not all(bool(squares.isfinite().all()) for squares in found[name].squares.values()):
            raise CalibrationError(
                f"the inputs of {name} are not finite; look for NaN in the data and the weights, or use a dtype of a "
                "larger range"
            )
    return found


def survey_scope(
    model: object, batches: Iterable[Any], scope: Patterns | None, exclude: Patterns | None
) -> tuple[Scope, dict[str, LayerInputs]]:
    """Return the prunable tensors of a network, and what each was multiplied with, as `survey` does.

    Warns of weights that had no inputs. Raises `ScoresError` for what is not a network, and as `find_scope` does.
    """
    network, found = prunable(model, scope, exclude)
    layers = survey(network, found.tensors, batches)
    if idle := without_inputs(found.tensors, layers):
        warn(f"{idle}, so their scores are zero and they are pruned first; give more data, or a minimum")
    return found, layers


def without_inputs(tensors: Mapping[str, Tensor], found: Mapping[str, LayerInputs]) -> str | None:
    """Return a clause on the weights that were in no application, such as those of idle experts; None without any."""
    counts = {name: int((layer.uses(tensors[name]) == 0).sum()) for name, layer in found.items()}
    idle = {name: count for name, count in counts.items() if count}
    if not idle:
        return None
    name, count = next(iter(idle.items()))
    more = f", and some of {len(idle) - 1:,} more tensors," if idle.keys() - {name} else ""
    return (
        f"{count:,} of the {tensors[name].numel():,} weights of {name}{more} had no inputs in the batches, as "
        "experts that get no tokens"
    )


def visit(
    model: nn.Module,
    name: str,
    tensors: Mapping[str, Tensor],
    batches: Iterable[Any],
    seen: Seen,
    *,
    until: set[str],
) -> None:
    """Run all batches, and call `seen` for each application of one tensor; stop before any of those in `until`."""

    def one(found: str, part: Part, inputs: Inputs) -> None:
        if found in until:
            raise _Enough
        seen(found, part, inputs)

    watched = {each: tensor for each, tensor in tensors.items() if each == name or each in until}
    with _visible(model):
        for batch in each_batch(model, batches):
            try:
                with Watch(watched, one):
                    run(model, batch)
            except _Enough:
                pass


def in_order(found: Mapping[str, LayerInputs]) -> list[str]:
    """Return the names in the order in which the network first uses the tensors."""
    return sorted(found, key=lambda name: min(first for first, _ in found[name].spans.values()))


def followers(found: Mapping[str, LayerInputs], name: str) -> set[str]:
    """Return the tensors that the network uses only when it is done with one, in every batch."""
    spans, after = found[name].spans, set()
    for other, layer in found.items():
        both = layer.spans.keys() & spans.keys()
        if both and all(layer.spans[batch][0] > spans[batch][1] for batch in both):
            after.add(other)
    return after


class _Enough(BaseException):
    """Ends a forward pass early; the network's own `except Exception` does not stop it."""


@contextmanager
def _visible(model: nn.Module) -> Iterator[None]:
    """Evaluate a network with operators in which its layers can be told apart."""
    fast = torch.backends.mha.get_fastpath_enabled()
    # Operators that compute a whole recurrent layer.
    libraries: list[Any] = [torch.backends.mkldnn, torch.backends.cudnn]
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    enabled = [library.enabled for library in libraries]
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for library in libraries if recurrent else []:
            library.enabled = False
        with calibrating(model):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for library, before in zip(libraries, enabled, strict=True):
            library.enabled = before


def _check_seen(tensors: Mapping[str, Tensor], found: Mapping[str, LayerInputs]) -> None:
    missing = [name for name, layer in found.items() if not layer.squares]
    if not missing:
        return
    shown = ", ".join(missing[:_LISTED]) + (
        f" and {len(missing) - _LISTED:,} more" if missing[_LISTED:] else ""
    )
    experts = any(tensors[name].ndim == 3 for name in missing)
    raise CalibrationError(
        f"no inputs of {shown} were seen: the layer did not run on these batches, or does not multiply its inputs "
        "with the stored weights (embeddings, Bilinear, reparametrised or autocast weights do not); exclude it"
        + (
            ', or for experts of transformers call model.set_experts_implementation("eager")'
            if experts
            else ""
        )
    )
