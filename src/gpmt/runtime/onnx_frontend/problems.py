"""All nodes of a file that cannot be run, in one message."""

from __future__ import annotations

from pathlib import Path

from gpmt.errors import RuntimeProgramError
from gpmt.formats.short_repr import short_repr
from gpmt.runtime.onnx_frontend.node import Node
from gpmt.runtime.onnx_frontend.registry import is_quantised

_NAMED = 3  # nodes of each kind
_KINDS = 40


class Problems:
    """Nodes that cannot be run, and why."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, int, str], list[str]] = {}

    def add(self, node: Node, reason: str = "") -> None:
        """Note a node; without a reason its operator is not known."""
        if not reason and is_quantised(node):
            reason = "it is of a quantised network, but programs compute in float32"
        reason = reason or "it is not supported"
        self._nodes.setdefault((node.kind, node.opset, reason), []).append(node.name)

    def check(self, path: Path) -> None:
        """Raise `RuntimeProgramError` with all of them, if there are any."""
        if not self._nodes:
            return
        parts = [_describe(*key, names) for key, names in self._nodes.items()]
        if len(parts) > _KINDS:
            parts[_KINDS:] = [f"and {len(parts) - _KINDS} more kinds"]
        quantised = any("quantised" in reason for _, _, reason in self._nodes)
        remedy = (
            "export the network before it is quantised" if quantised else "export the network without them"
        )
        raise RuntimeProgramError(f"{path} cannot be run because of {', '.join(parts)}; {remedy}")


def _describe(kind: str, opset: int, reason: str, names: list[str]) -> str:
    shown = ", ".join(short_repr(name, 80) for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    nodes = "nodes" if len(names) > 1 else "node"
    return f"{kind} of opset {opset} ({nodes} {shown}{more}: {reason})"
