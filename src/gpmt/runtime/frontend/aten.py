"""ATen calls to operators of a graph: what has a kernel is translated, the rest becomes fallbacks with a reason."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.frontend import (  # noqa: F401 - each registers its handlers
    aten_attention,
    aten_channels,
    aten_convolution,
    aten_elementwise,
    aten_linear,
    aten_normalization,
    aten_pooling,
    aten_shapes,
    aten_tokens,
    aten_upsampling,
)
from gpmt.runtime.frontend.builder import Builder, Unsupported, base_name
from gpmt.runtime.frontend.handlers import HANDLERS
from gpmt.runtime.frontend.record import RecordedCall, Recording
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.torch_calls import Ref, TorchCall, bind, short_name
from gpmt.torch_private import OpOverload, overload_name, schema, tree_leaves, tree_map_only

_RESHAPE = torch.ops.aten.reshape.default


def translate(module: nn.Module, recording: Recording, inputs: list[str]) -> Graph:
    """Return the graph of a recording.

    Args:
        module: the network that was recorded.
        recording: its calls.
        inputs: names for the tensors that it was called with.

    Raises:
        Aliased: writing in place leaves open what a later call reads.
    """
    builder = Builder(module, recording, inputs)
    for call in recording.calls:
        _translate(builder, call)
    return builder.finish([leaf for leaf in tree_leaves(recording.result) if isinstance(leaf, Tensor)])


def _translate(builder: Builder, call: RecordedCall) -> None:
    mutated = call.mutated()
    target = _functional(call, mutated[0]) if mutated else call.target
    if target is None:
        if not builder.fold_constants_in_place(call, mutated):
            _add_in_place_fallback(builder, call, mutated)
    elif not builder.fold_constants(call, target):
        try:
            _translate_natively(builder, call, target)
        except Unsupported as unsupported:
            _add_fallback(builder, call, target, str(unsupported))
    if target is not None and mutated:
        (result,) = call.outputs()
        assert result is not None  # the argument itself
        builder.note_write(mutated[0], builder.value_name(result))


def _translate_natively(builder: Builder, call: RecordedCall, target: OpOverload) -> None:
    """Add the operators that do what a call does; raises `Unsupported`, and adds nothing, where there are none."""
    handler = HANDLERS.get(short_name(target))
    results = [result for result in call.outputs() if result is not None]
    if handler is None or not results:
        raise Unsupported("there is no kernel for it")
    handler(builder, bind(target, call.args, call.kwargs), results)


def _functional(call: RecordedCall, written_to: Tensor) -> OpOverload | None:
    """Return the operator that makes a new tensor of the same values where this one writes into an argument."""
    target = call.target
    namespace, _, name = schema(target).name.partition("::")
    arguments = schema(target).arguments
    written = [index for index, a in enumerate(arguments) if a.alias_info and a.alias_info.is_write]
    if not name.endswith("_") or name.endswith("__") or written != [0] or len(schema(target).returns) != 1:
        return None
    packet = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None)
    found = getattr(packet, overload_name(target), None)
    if not isinstance(found, OpOverload) or schema(found).is_mutable:
        return None
    if [str(a.type) for a in schema(found).arguments] != [str(a.type) for a in arguments]:
        return None
    # Without the place to write to, a result can be of another type: wider, or the bool of a comparison.
    made = found(*call.args, **call.kwargs)
    return found if (made.dtype, made.shape) == (written_to.dtype, written_to.shape) else None


def _add_fallback(builder: Builder, call: RecordedCall, target: OpOverload, reason: str) -> None:
    args, kwargs = call.args, call.kwargs
    name = schema(target).name.removeprefix("aten::")
    if name in ("view", "_unsafe_view") and overload_name(target) in ("default", ""):
        target = _RESHAPE  # what was contiguous in the network may not be so here
    elif name.startswith("as_strided"):
        raise RuntimeProgramError(
            f"the network reads memory by strides ({name}), which depends on how tensors lie in memory; "
            "use reshape, permute, unfold or indexing instead"
        )
    elif name == "batch_norm" and call.bound()["training"]:
        # The statistics of the batch are used; those that are kept must not change.
        bound = {**call.bound(), "running_mean": None, "running_var": None}
        args, kwargs = tuple(bound.values()), {}
    arguments, named = builder.refs(args), builder.refs(kwargs)
    base = base_name(target)
    outputs = [None if tensor is None else builder.new_result(tensor, base) for tensor in call.outputs()]
    torch_call = TorchCall(target, arguments, named, tuple(outputs))
    builder.add_fallback([torch_call], [name for name in outputs if name is not None], reason)


def _add_in_place_fallback(builder: Builder, call: RecordedCall, mutated: list[Tensor]) -> None:
    """Add a fallback that writes into copies."""
    calls, copies = [], {}
    for tensor in mutated:
        before = builder.value_name(tensor)
        copies[before] = builder.new_value(f"{before}_copy", tuple(tensor.shape), tensor.dtype)
        calls.append(TorchCall(torch.ops.aten.clone.default, (Ref(before),), {}, (copies[before],)))

    def copied(tree: Any) -> Any:
        return tree_map_only(Ref, lambda ref: Ref(copies.get(ref.name, ref.name)), tree)

    args, kwargs = copied(builder.refs(call.args)), copied(builder.refs(call.kwargs))
    after = {id(tensor): copies[builder.value_name(tensor)] for tensor in mutated}
    results = [
        None if t is None or id(t) in after else builder.new_result(t, base_name(call.target))
        for t in call.outputs()
    ]
    calls.append(TorchCall(call.target, args, kwargs, tuple(results)))
    builder.add_fallback(calls, [*copies.values(), *(r for r in results if r)], "it writes in place")
    for tensor in mutated:
        builder.note_write(tensor, after[id(tensor)])
