"""Running any network on the batches of any data loader; nothing of the network is changed afterwards."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpmt.errors import CalibrationError, GpmtError, first_line
from gpmt.model_tools import evaluating, logits_of, moved, part_of

Loss = Callable[[Any, Any], Tensor]
"""Of the network's output and the batch's target (the batch itself where it has none): a scalar to differentiate."""


@dataclass(frozen=True)
class Batch:
    """One batch, as a network is called with it.

    Attributes:
        number: its place in the data, from 1, for messages.
        args: positional arguments of the network.
        kwargs: arguments by name.
        target: what the output is compared with; None where the batch holds no target of its own.
        content: the batch as it came, moved to the network's device and dtype.
    """

    number: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    target: Any
    content: Any


def each_batch(model: nn.Module, batches: Iterable[Any]) -> Iterator[Batch]:
    """Yield the batches of a data loader, or of any other iterable, on the device of a network.

    A batch is a tensor (the input), a tuple or list whose last element is the target (or None) and the others inputs,
    or a mapping of arguments by name, as tokenizers and data sets of Hugging Face give it, its labels among them. The
    input of a tuple may be a mapping or a tuple itself. Floating tensors, targets included, take the network's dtype.

    Raises `CalibrationError` where there are no batches, and for what is not a batch.

    >>> layer = nn.Linear(2, 3)
    >>> [batch] = each_batch(layer, [(torch.ones(4, 2), torch.zeros(4, dtype=torch.int64))])
    >>> run(layer, batch).shape, batch.target.shape
    (torch.Size([4, 3]), torch.Size([4]))
    """
    if isinstance(batches, Tensor | Mapping | str | bytes) or not isinstance(batches, Iterable):
        remedy = (
            "put it into a list" if isinstance(batches, Tensor | Mapping) else "give a data loader or a list"
        )
        raise CalibrationError(
            f"batches is of type {type(batches).__name__}, but must be an iterable of batches; {remedy}"
        )
    like = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), None)
    number = 0
    for number, content in enumerate(batches, 1):
        yield read_batch(number, content if like is None else moved(content, like))
    if not number:
        raise CalibrationError(
            "batches is empty, so nothing can be measured; give at least one, and a list or a data loader where they "
            "are needed again, since an iterator gives its batches only once"
        )


def run(model: nn.Module, batch: Batch) -> Any:
    """Return the output of a network for a batch. Raises `CalibrationError` where it does not run."""
    try:
        return model(*batch.args, **batch.kwargs)
    except GpmtError:
        raise
    except Exception as error:  # the network is anyone's code
        raise CalibrationError(
            f"the network does not run on batch {batch.number}, {_described(batch)} ({first_line(error)}); "
            "give batches that its forward takes: a tensor, a tuple (inputs, target), or a dict of arguments"
        ) from error


def loss_of(output: Any, batch: Batch, loss: Loss | None = None) -> Tensor:
    """Return the loss of a network's output, a finite scalar.

    It is `loss` of the output and the target (of the output and the batch, where the batch has no target), or else
    the `loss` that the output itself holds, as those of transformers do where they are given labels, or else the
    cross entropy of the logits with a target of classes.

    Raises `CalibrationError` where there is neither a loss nor such a target, and for a loss that is not a scalar,
    or is NaN or infinite.
    """
    found = differentiable_loss(output, batch, loss)
    if not bool(torch.isfinite(found.detach())):
        raise CalibrationError(
            f"the loss of batch {batch.number} is {found.item()}; look for NaN in the data and the weights, or use a "
            "dtype of a larger range"
        )
    return found


def differentiable_loss(output: Any, batch: Batch, loss: Loss | None = None) -> Tensor:
    """Return the loss as `loss_of` does, without reading its value, so that it can be transformed."""
    try:
        if loss is not None:
            found = loss(output, batch.content if batch.target is None else batch.target)
        else:
            found = part_of(output, "loss")
            found = _cross_entropy(output, batch) if found is None else found
    except GpmtError:
        raise
    except Exception as error:  # the loss is anyone's code, and so are the targets
        raise CalibrationError(
            f"the loss of batch {batch.number} fails ({first_line(error)}); give targets that fit the network's "
            "output"
        ) from error
    if not isinstance(found, Tensor) or found.numel() != 1 or not found.is_floating_point():
        what = f"a tensor of shape {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise CalibrationError(
            f"the loss of batch {batch.number} is {what}, but must be one floating number; reduce it, for example "
            "with mean()"
        )
    return found.reshape(())


@contextmanager
def calibrating(model: nn.Module, *, gradients: bool = False) -> Iterator[None]:
    """Run a network in evaluation mode inside the block, with or without gradients.

    At its end every module's mode and the states of the random generators, also those of the data loader, are as
    before. Running statistics do not change in evaluation mode.
    """
    with (
        evaluating(model),
        _keeping_random_states(model),
        torch.inference_mode(False),
        torch.set_grad_enabled(gradients),
        _differentiable_recurrence(model, gradients),
    ):
        yield


def read_batch(number: int, content: Any) -> Batch:
    """Return a batch as a network is called with it. Raises `CalibrationError` for what is none."""
    target = None
    inputs = content
    if isinstance(content, list | tuple):
        if not content:
            raise CalibrationError(f"batch {number} is empty; give a tensor, (inputs, target) or a dict")
        inputs, target = (content[:-1], content[-1]) if len(content) > 1 else (content, None)
        if len(inputs) == 1:
            inputs = inputs[0]
    if isinstance(inputs, Mapping):
        return Batch(number, (), dict(inputs), target, content)
    if isinstance(inputs, list | tuple):
        return Batch(number, tuple(inputs), {}, target, content)
    if isinstance(inputs, Tensor):
        return Batch(number, (inputs,), {}, target, content)
    raise CalibrationError(
        f"batch {number} holds an input of type {type(inputs).__name__}; give a tensor, a tuple (inputs, target), or "
        "a dict of arguments"
    )


def _cross_entropy(output: Any, batch: Batch) -> Tensor:
    logits, target = logits_of(output), batch.target
    if target is None:
        raise CalibrationError(
            f"batch {batch.number} has no target and the network returns no loss; give batches (inputs, target), "
            "dicts with the labels that the network takes, or loss="
        )
    classes = isinstance(target, Tensor) and target.dtype == torch.int64
    if not isinstance(logits, Tensor) or logits.ndim < 2 or logits.shape[1] < 2 or not classes:
        raise CalibrationError(
            f"the output ({_shown(logits)}) and the target ({_shown(target)}) of batch {batch.number} are not logits "
            "of at least two classes and int64 numbers of classes, which the cross entropy needs; give loss=, such "
            "as torch.nn.functional.mse_loss"
        )
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(wide, target.to(wide.device))  # the last of several devices


def _described(batch: Batch) -> str:
    inputs = [_shown(value) for value in batch.args]
    inputs += [f"{name} {_shown(value)}" for name, value in batch.kwargs.items()]
    return ", ".join(inputs) or "without inputs"


def _shown(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__


@contextmanager
def _keeping_random_states(model: nn.Module) -> Iterator[None]:
    # Data loaders draw from PyTorch's generator, and augmentations from the other two.
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = {tensor.device for tensor in model.parameters()} - {torch.device("cpu"), torch.device("meta")}
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=[]))
            for kind in {device.type for device in devices}:
                indices = [device.index or 0 for device in devices if device.type == kind]
                stack.enter_context(torch.random.fork_rng(devices=indices, device_type=kind))
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def _differentiable_recurrence(model: nn.Module, gradients: bool) -> Iterator[None]:
    """Put recurrent layers of a GPU, without dropout, in training mode, the only one that cuDNN differentiates."""
    layers = [
        layer
        for layer in model.modules()
        if gradients
        and isinstance(layer, nn.RNNBase)
        and any(weight.is_cuda for weight in layer.parameters(recurse=False))
    ]
    dropouts = [layer.dropout for layer in layers]
    try:
        for layer in layers:
            layer.training, layer.dropout = True, 0.0
        yield
    finally:
        for layer, dropout in zip(layers, dropouts, strict=True):
            layer.training, layer.dropout = False, dropout
