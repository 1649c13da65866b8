"""What shapes of inputs determine: which nodes run, and which values are the same in every call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from gpmt.runtime.onnx_frontend.call import NotSupported
from gpmt.runtime.onnx_frontend.evaluation import compute_node, is_by_shape, run_node
from gpmt.runtime.onnx_frontend.node import Branch, Node
from gpmt.runtime.onnx_frontend.problems import Problems
from gpmt.torch_private import FakeTensorMode, disable_current_modes


@dataclass
class Survey:
    """What is found out about a network for some shapes of its inputs.

    Attributes:
        known: values that are the same in every call, and that the steps or the network's outputs read.
        steps: the nodes that have to run, without those whose results are known.
        forgotten: for each step, values that no later one reads.
    """

    known: dict[str, Tensor]
    steps: list[Node]
    forgotten: list[list[str]] = field(default_factory=list)


def survey(
    path: Path,
    nodes: Sequence[Node],
    constants: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    room: int,
) -> Survey:
    """Run nodes on tensors without data.

    Args:
        path: the file, for messages.
        nodes: in their order.
        constants: values that are there from the start.
        inputs: tensors of the shapes and dtypes that the network is called with.
        outputs: the values that it returns.
        room: how many elements known values may have together.

    Raises:
        RuntimeProgramError: nodes that cannot be run; all are named that do not read the results of one another.
    """
    surveyor = _Surveyor(constants, reads(nodes, outputs), room)
    with disable_current_modes(), torch.inference_mode(False), torch.no_grad():
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        with mode:
            for name, tensor in inputs.items():
                surveyor.values[name] = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            surveyor.visit(nodes)
    surveyor.problems.check(path)
    kept = reads(surveyor.steps, outputs)
    known = {name: surveyor.values[name] for name in surveyor.known if name in kept and name not in constants}
    return Survey(known, surveyor.steps, _forgotten(surveyor.steps, {*outputs, *known, *constants}))


def reads(nodes: Sequence[Node], outputs: Sequence[str]) -> set[str]:
    """Return the values that nodes read, also inside branches, and outputs."""
    found = {*outputs}
    for node in nodes:
        found.update(node.inputs)
        for value in node.attributes.values():
            if isinstance(value, Branch):
                found |= reads(value.nodes, value.outputs)
    return found - {""}


class _Surveyor:
    def __init__(self, constants: Mapping[str, Tensor], wanted: Set[str], room: int) -> None:
        self.values = dict(constants)
        self.known = {*constants}
        self.wanted = wanted
        self.room = room
        self.steps: list[Node] = []
        self.problems = Problems()

    def visit(self, nodes: Sequence[Node]) -> None:
        """Run nodes; what depends on one that cannot be run is left out."""
        for node in nodes:
            if not self.values.keys() >= {*filter(None, node.inputs)}:
                continue
            try:
                if node.operator == "If" and not node.domain:
                    self._visit_branch(node)
                else:
                    self._visit(node)
            except NotSupported as problem:
                self.problems.add(node, str(problem))
            except MemoryError:
                self.problems.add(node, "there is not enough memory for it")

    def _visit(self, node: Node) -> None:
        read = {*filter(None, node.inputs)}
        if read <= self.known:
            made = compute_node(node, self.values, self.wanted, self.room)
            self.room -= sum(tensor.numel() for tensor in made.values())
        else:
            made = run_node(node, self.values, self.known, self.wanted)
        self.values.update(made)
        if read <= self.known or is_by_shape(node):
            self.known.update(made)
        else:
            self.steps.append(node)

    def _visit_branch(self, node: Node) -> None:
        condition = node.inputs[0] if node.inputs else ""
        if condition not in self.known or self.values[condition].numel() != 1:
            raise NotSupported("which branch it takes depends on values of the network's inputs")
        with disable_current_modes():
            chosen = "then_branch" if bool(self.values[condition]) else "else_branch"
        branch = node.attributes.get(chosen)
        if not isinstance(branch, Branch) or len(branch.outputs) < len(node.outputs):
            raise NotSupported(f"it has no {chosen} with its outputs")
        self.visit(branch.nodes)
        for name, source in zip(node.outputs, branch.outputs, strict=False):
            if source not in self.values:
                continue
            self.values[name] = self.values[source]
            if source in self.known:
                self.known.add(name)
            else:
                version = 1
                self.steps.append(Node(name, "Identity", "", node.opset, version, (source,), (name,), {}))


def _forgotten(steps: Sequence[Node], kept: Set[str]) -> list[list[str]]:
    seen = set(kept)
    found: list[list[str]] = []
    for node in reversed(steps):
        last = [name for name in dict.fromkeys((*node.inputs, *node.outputs)) if name and name not in seen]
        found.append(last)
        seen.update(last)
    return found[::-1]
