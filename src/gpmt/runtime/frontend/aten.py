"""ATen calls to operators of the graph: what has a kernel is translated, the rest stays on PyTorch with a reason."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.frontend import aten_elementwise, aten_images
from gpmt.runtime.frontend.builder import Builder, Handler, Leave, base_name
from gpmt.runtime.frontend.record import RecordedCall, Recording
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.torch_calls import Ref, TorchCall, bind, short_name
from gpmt.torch_private import OpOverload, overload_name, schema, tree_leaves, tree_map_only

_HANDLERS: dict[str, Handler] = {**aten_images.HANDLERS, **aten_elementwise.HANDLERS}
_RESHAPE = torch.ops.aten.reshape.default


def translate(module: nn.Module, recording: Recording, inputs: list[str]) -> Graph:
    """Return the graph of a recorded run; `inputs` are the names of its inputs.

    Raises `Aliased` where writing in place leaves open what a later call reads.
    """
    builder = Builder(module, recording, inputs)
    for call in recording.calls:
        _translate(builder, call)
    return builder.finish([leaf for leaf in tree_leaves(recording.result) if isinstance(leaf, Tensor)])


def _translate(builder: Builder, call: RecordedCall) -> None:
    mutated = call.mutated()
    target = _functional(call, mutated[0]) if mutated else call.target
    if target is None:
        if not builder.fold_in_place(call, mutated):
            _leave_in_place(builder, call, mutated)
    elif not builder.fold(call, target):
        try:
            _natively(builder, call, target)
        except Leave as leave:
            _leave(builder, call, target, str(leave))
    if target is not None and mutated:
        (result,) = call.outputs()
        assert result is not None  # the argument itself
        builder.wrote(mutated[0], builder.name(result))


def _natively(builder: Builder, call: RecordedCall, target: OpOverload) -> None:
    """Add the operators that do what a call does; raises `Leave`, and adds nothing, where there are none."""
    name, arguments = short_name(target), bind(target, call.args, call.kwargs)
    results = [result for result in call.outputs() if result is not None]
    splits = name in aten_images.SPLITS
    if not results or not (splits or name in _HANDLERS):
        raise Leave("there is no kernel for it")
    if not all(result.numel() for result in (results if splits else results[:1])):
        raise Leave("its result is empty")
    if splits:
        aten_images.split(builder, arguments, results)
    else:
        builder.unread(results[1:])
        _HANDLERS[name](builder, arguments, results[0])


def _functional(call: RecordedCall, written_to: Tensor) -> OpOverload | None:
    """Return the operator that makes a new tensor of the same numbers where this one writes into an argument."""
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


def _leave(builder: Builder, call: RecordedCall, target: OpOverload, reason: str) -> None:
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
    step_args, step_kwargs = builder.refs(args), builder.refs(kwargs)
    outputs = _outputs(builder, call, base_name(target))
    builder.leave(
        [TorchCall(target, step_args, step_kwargs, tuple(outputs))],
        [o for o in outputs if o is not None],
        reason,
    )


def _leave_in_place(builder: Builder, call: RecordedCall, mutated: list[Tensor]) -> None:
    """Write into copies."""
    steps, copies = [], {}
    for tensor in mutated:
        before = builder.name(tensor)
        copies[before] = builder.fresh(f"{before}_copy", tuple(tensor.shape), tensor.dtype)
        steps.append(TorchCall(torch.ops.aten.clone.default, (Ref(before),), {}, (copies[before],)))

    def copied(tree: Any) -> Any:
        return tree_map_only(Ref, lambda ref: Ref(copies.get(ref.name, ref.name)), tree)

    args, kwargs = copied(builder.refs(call.args)), copied(builder.refs(call.kwargs))
    after = {id(tensor): copies[builder.name(tensor)] for tensor in mutated}
    results = [
        None if t is None or id(t) in after else builder.new(t, base_name(call.target))
        for t in call.outputs()
    ]
    steps.append(TorchCall(call.target, args, kwargs, tuple(results)))
    builder.leave(steps, [*copies.values(), *(r for r in results if r)], "it writes in place")
    for tensor in mutated:
        builder.wrote(tensor, after[id(tensor)])


def _outputs(builder: Builder, call: RecordedCall, base: str) -> list[str | None]:
    return [None if tensor is None else builder.new(tensor, base) for tensor in call.outputs()]
