"""Operators that stay on PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpmt.runtime.ir.document import DocumentError
from gpmt.runtime.ir.fields import TEXT, FieldKind
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.torch_calls import TorchCall, TorchCalls, short_name
from gpmt.runtime.ir.torch_calls_encoding import decode_calls, encode_calls


@dataclass(frozen=True, eq=False)
class Fallback(Operator):
    """Calls of PyTorch.

    Attributes:
        reason: why it is not native.
        calls: takes the inputs as tensors and returns a tuple of the outputs.
    """

    reason: str
    calls: TorchCalls

    @property
    def inputs(self) -> tuple[str, ...]:
        """The values that the calls read."""
        return self.calls.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """The values that others read."""
        return self.calls.outputs

    @property
    def target(self) -> str:
        """The names of the ATen operators, for the report."""
        return ", ".join(dict.fromkeys(short_name(call.target) for call in self.calls.calls))


def fallback(
    calls: Sequence[TorchCall], inputs: Sequence[str], outputs: Sequence[str], reason: str
) -> Fallback:
    """Return an operator that makes these calls."""
    return Fallback(reason, TorchCalls(calls, inputs, outputs))


def _encode(calls: TorchCalls) -> dict[str, Any]:
    encoded = encode_calls(calls)
    if encoded is None:
        target = Fallback("", calls).target
        raise DocumentError(
            f"cannot hold {target}, which stays on PyTorch with arguments that are not plain data"
        )
    return encoded


define(
    Fallback,
    name="PyTorch",
    fields={
        "reason": TEXT,
        "calls": FieldKind(
            lambda data, _: decode_calls(data),
            _encode,
            reads=lambda calls: calls.inputs,
            writes=lambda calls: calls.outputs,
            rename=lambda calls, names: calls.renamed(names),
        ),
    },
    shape=None,
    reads_images=False,
)
