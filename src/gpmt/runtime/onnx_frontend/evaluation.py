"""One node is run: with data, or without to find out the shapes of what it makes."""

from __future__ import annotations

from collections.abc import Mapping, Set

import torch
from torch import Tensor

from gpmt.errors import first_sentence
from gpmt.runtime.onnx_frontend.call import Call, NotSupported, check_size
from gpmt.runtime.onnx_frontend.node import Node
from gpmt.runtime.onnx_frontend.registry import Entry, entry
from gpmt.torch_private import FakeTensorMode, disable_current_modes


def run_node(
    node: Node, values: Mapping[str, Tensor], known: Set[str], wanted: Set[str]
) -> dict[str, Tensor]:
    """Return what a node makes of the values that it reads, by name.

    Args:
        node: no If.
        values: the tensors that it reads, by name.
        known: names of those that are the same in every call.
        wanted: names of values that are read at all.

    Raises:
        NotSupported: the node cannot be run on these.
    """
    found = _entry(node)
    call = Call(
        node,
        [values[name] if name else None for name in node.inputs],
        [name in known for name in node.inputs],
        [name in wanted for name in node.outputs],
    )
    try:
        result = found.translate(call)
    except (NotSupported, MemoryError):
        raise
    except Exception as error:  # PyTorch has many for what does not fit together
        raise NotSupported(_plain(first_sentence(error))) from error
    results = result if isinstance(result, tuple) else (result,)
    made = {}
    for name, tensor in zip(node.outputs, results, strict=False):
        if name and tensor is not None:
            check_size(tensor.shape)
            made[name] = tensor
    if missing := [name for name in node.outputs if name in wanted and name not in made]:
        raise NotSupported(f"its output {missing[0]!r} is not made")
    return made


def compute_node(node: Node, values: Mapping[str, Tensor], wanted: Set[str], room: int) -> dict[str, Tensor]:
    """Return what a node makes of known values, at most `room` elements. Raises `NotSupported`."""
    known = {*node.inputs}
    with disable_current_modes(), torch.inference_mode(False), torch.no_grad():
        if not _entry(node).sized_by_values:
            with FakeTensorMode(allow_non_fake_inputs=True):
                made = run_node(node, values, known, wanted)
            elements = sum(tensor.numel() for tensor in made.values())
            if elements > room:
                raise NotSupported(f"it is a constant of {elements:,} elements, too large for this file")
        return run_node(node, values, known, wanted)


def is_by_shape(node: Node) -> bool:
    """Whether what a node makes depends on nothing but the shapes of its inputs."""
    return _entry(node).by_shape


def _entry(node: Node) -> Entry:
    found = entry(node)
    if found is None:
        raise NotSupported("")
    return found


def _plain(sentence: str) -> str:
    """Return a sentence of PyTorch in one line of bounded length."""
    text = " ".join(sentence.split())
    return text if len(text) <= 200 else text[:199] + "…"
