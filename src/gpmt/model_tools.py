"""Unwrapping a network, switching it to evaluation and back, and what goes into it and comes out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from gpmt.errors import GpmtError
from gpmt.torch_private import COMPILED, compiled_from

Example = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""Inputs of one call: a tensor, several in the order of `forward`, or a mapping by the names of its arguments."""


def unwrap(model: nn.Module) -> nn.Module:
    """The plain model inside `DistributedDataParallel`, `DataParallel` and `torch.compile` wrappers."""
    while True:
        if (network := compiled_from(model)) is not None:
            model = network
        elif isinstance(model, (DataParallel, DistributedDataParallel)):
            model = model.module
        else:
            return model


def not_a_network(target: object) -> str:
    """Return the message for what is neither a module with layers nor a mapping of tensors, such as a program."""
    kind = program_kind(target) or (
        "a graph of torch.fx" if isinstance(target, torch.fx.GraphModule) else None
    )
    if kind is None:
        return f"the network is an object of type {type(target).__name__}; give an nn.Module or a state_dict"
    state = "state_dict" if _is_exported(target) else "state_dict()"
    return (
        f"the network is {kind}, in which no layers can be seen; give the module that it was made from, or the "
        f"program's weights, program.{state}"
    )


def program_kind(target: object) -> str | None:
    """Name the kind of a program, which has weights, but no layers and no code; None for anything else."""
    if isinstance(target, torch.jit.ScriptModule):
        return "a TorchScript program"
    if _is_exported(target):
        return "a program of torch.export"
    return None


def _is_exported(target: object) -> bool:
    # By its name, since torch.export takes long to import, and whoever has a program has imported it.
    return (type(target).__module__, type(target).__name__) == (
        "torch.export.exported_program",
        "ExportedProgram",
    )


def plain_name(name: str) -> str:
    """Return the name of a tensor without what `torch.compile` and `DistributedDataParallel` put into it.

    >>> plain_name("module._orig_mod.layer._orig_mod.weight")
    'layer.weight'
    """
    parts = [part for part in name.split(".") if part != COMPILED]
    return ".".join(parts[1:] if parts[0] == "module" and len(parts) > 1 else parts)


@contextmanager
def keeping_modes(module: nn.Module) -> Iterator[None]:
    """Restore the training or evaluation mode of every module at the end of the block.

    >>> layer = nn.Dropout()
    >>> with keeping_modes(layer):
    ...     _ = layer.eval()
    >>> layer.training
    True
    """
    modes = {part: part.training for part in module.modules()}
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode and back; text generators of transformers return no cache meanwhile.

    Raises `GpmtError` for a program of torch.export, which has one mode.
    """
    configs: dict[int, Any] = {
        id(part.config): part.config for part in module.modules() if hasattr(part, "config")
    }
    configs = {key: config for key, config in configs.items() if getattr(config, "use_cache", None) is True}
    with keeping_modes(module):
        try:
            for config in configs.values():
                config.use_cache = False
            try:
                module.eval()
            except NotImplementedError:  # of what `ExportedProgram.module()` returns
                raise GpmtError(
                    "the network is a program of torch.export, whose mode is fixed; give the module that it was "
                    "made from"
                ) from None
            yield
        finally:
            for config in configs.values():
                config.use_cache = True


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Silence these loggers at all levels inside the block; errors are found by checking the result."""
    before = {name: logging.getLogger(name).level for name in loggers}
    try:
        for name in loggers:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def split_example(example: object, error: type[GpmtError]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the named arguments of an example; raise `error` if it is of another type."""
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, list | tuple):
        return tuple(example), {}
    raise error(
        f"the example is of type {type(example).__name__}, but must be a tensor, a tuple of tensors, or a dict "
        "of tensors by the names of the network's arguments"
    )


def moved(value: Any, like: Tensor) -> Any:
    """Return what a network is given, with its tensors on the device of `like` and, where floating, in its dtype.

    Mappings, lists and tuples are gone through; anything else stays as it is.
    """
    if isinstance(value, Tensor):
        return value.to(like.device, like.dtype if value.is_floating_point() else None)
    if isinstance(value, Mapping):
        return {key: moved(part, like) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return tuple(moved(part, like) for part in value)
    return value


def part_of(output: Any, name: str) -> Any:
    """Return a part of what a network returns, by its name in an object or a mapping; None where there is none."""
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def logits_of(output: Any) -> Any:
    """Return the logits in what a network returns, which may hold other things too, or all of it."""
    found = part_of(output, "logits")
    return output if found is None else found
