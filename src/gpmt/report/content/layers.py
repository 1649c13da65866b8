"""The layers of a subject, from the documents that plans and verifications write and from counts of weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from gpmt.core.budget.first_match import Named, first_matches
from gpmt.core.scope.tensor_count import TensorCount, is_collapsed
from gpmt.errors import GpmtError
from gpmt.macs import sparse_macs
from gpmt.report.content.documents import Document
from gpmt.report.content.subject import Layer


def planned_layers(plan: Document, unit: str) -> list[Layer]:
    """Return the blocks of a plan as `Plan.to_dict` writes it; `unit` is what it counts, such as "weights"."""
    found = []
    for tensor in plan.rows("tensors"):
        name, kind = tensor.text("name"), tensor.text("kind")
        for block in tensor.rows("blocks") or [tensor]:
            found.append(
                Layer(
                    name=block.text("name"),
                    tensor=name,
                    kind=kind,
                    shape=block.counts("shape"),
                    numel=block.count(unit) or 0,
                    kept=block.count("kept") or 0,
                    floor=block.count("floor"),
                    binds=block.flag("binds"),
                )
            )
    return _grouped(found, plan)


def verified_layers(verification: Document, unit: str) -> list[Layer]:
    """Return the blocks of a verification as `Verification.to_dict` writes it."""
    found = []
    for tensor in verification.rows("tensors"):
        name, blocks = tensor.text("name"), tensor.rows("blocks")
        outputs, live = tensor.count("outputs"), tensor.count("live_outputs")
        for block in blocks or [tensor]:
            found.append(
                Layer(
                    name=block.text("name"),
                    tensor=name,
                    kind=tensor.text("kind"),
                    shape=() if blocks else tensor.counts("shape"),
                    numel=block.count(unit) or 0,
                    kept=block.count("kept") or 0,
                    outputs=None if blocks else outputs,
                    live_outputs=None if blocks else live,
                    collapsed=is_collapsed(live or 0, outputs or 0),
                )
            )
    return found


def counted_layers(counts: Iterable[TensorCount]) -> list[Layer]:
    """Return the blocks of tensors whose weights were counted."""
    return [
        Layer(
            name=block.name,
            tensor=row.name,
            kind=row.kind,
            shape=() if row.blocks else row.shape,
            numel=block.numel,
            kept=block.kept,
            outputs=None if row.blocks else row.outputs,
            live_outputs=None if row.blocks else row.live_outputs,
            collapsed=row.collapsed,
        )
        for row in counts
        for block in row.blocks or (row,)
    ]


def joined(planned: Sequence[Layer], counted: Sequence[Layer]) -> list[Layer]:
    """Return the blocks of a plan with the weights that are left in the file; one of them may be empty.

    Where the plan divides a tensor and the count does not, the plan's numbers stay.
    """
    if not planned:
        return list(counted)
    by_name = {layer.name: layer for layer in counted}
    found = []
    for layer in planned:
        other = by_name.get(layer.name)
        if other is None or other.numel != layer.numel:
            found.append(layer)
        else:
            live, collapsed = other.live_outputs, other.collapsed
            found.append(
                replace(layer, kept=other.kept, outputs=other.outputs, live_outputs=live, collapsed=collapsed)
            )
    return found


def with_macs(layers: Sequence[Layer], dense: Mapping[str, float]) -> list[Layer]:
    """Return the layers with multiply-accumulates, from those of whole tensors with all weights."""
    sizes: dict[str, int] = {}
    for layer in layers:
        sizes[layer.tensor] = sizes.get(layer.tensor, 0) + layer.numel
    found = []
    for layer in layers:
        if layer.tensor not in dense or not layer.numel:
            found.append(layer)
            continue
        macs = int(dense[layer.tensor]) * layer.numel // sizes[layer.tensor]
        sparse = sparse_macs(macs, numel=layer.numel, kept=layer.kept)
        found.append(replace(layer, macs_dense=macs, macs_sparse=sparse))
    return found


def thresholds(plan: Document) -> dict[str, float]:
    """Return the thresholds of a plan by the labels of its groups; "" is the whole network."""
    found = {group.text("group"): group.number("threshold") for group in plan.rows("groups")}
    return {label: value for label, value in found.items() if value is not None}


def _grouped(layers: list[Layer], plan: Document) -> list[Layer]:
    """Return the layers with the labels of their groups, where there are several and they can be told."""
    groups = plan.rows("groups")
    if len(groups) < 2:
        return layers
    if plan.text("within") == "tensor":
        return [replace(layer, group=layer.tensor) for layer in layers]
    # The document has the groups in the order of the network; of patterns, the one for all others comes last.
    labels = sorted((group.text("group") for group in groups), key="*".__eq__)
    named = [Named(layer.name, (layer.tensor,), layer.kind) for layer in layers]
    try:
        places = first_matches(labels, named, role="sparsity")
    except GpmtError:
        return layers
    found = [None if place is None else labels[place] for place in places]
    if any(found.count(group.text("group")) != group.count("blocks") for group in groups):
        return layers
    return [replace(layer, group=label) for layer, label in zip(layers, found, strict=True)]
