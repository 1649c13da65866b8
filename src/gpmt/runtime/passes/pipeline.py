"""The passes in their order: from a captured graph to the same network with fewer operators."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.passes.fold_affine import compose_affine, fold_affine, remove_identity
from gpmt.runtime.passes.fuse_activation import fuse_activation
from gpmt.runtime.passes.fuse_residual import fuse_residual
from gpmt.runtime.passes.merge_attention import merge_heads, recognize_attention
from gpmt.runtime.passes.merge_places import merge_places
from gpmt.runtime.passes.move_rearrangements import (
    move_behind_affine,
    move_behind_layer_norm,
    move_behind_linear,
    move_behind_product,
    move_behind_sum,
    simplify_permutation,
    simplify_rearrangement,
)
from gpmt.runtime.passes.partition_fallbacks import partition_fallbacks
from gpmt.runtime.passes.push_stride import push_stride_to_consumer, push_stride_to_producer
from gpmt.runtime.passes.recognize_swish import recognize_swish
from gpmt.runtime.passes.remove_dead_code import remove_dead_code
from gpmt.runtime.passes.reshapes_to_fallbacks import reshapes_to_fallbacks
from gpmt.runtime.passes.rewriting import Rule, rewrite
from gpmt.runtime.passes.simplify_reshapes import simplify_reshapes
from gpmt.runtime.passes.small_operators_to_fallbacks import small_operators_to_fallbacks
from gpmt.runtime.passes.unfused_to_fallbacks import unfused_to_fallbacks

Pass = Callable[[Graph], Graph]

REARRANGING_RULES: tuple[Rule, ...] = (
    simplify_rearrangement,
    simplify_permutation,
    recognize_attention,
    merge_heads,
    move_behind_linear,
    move_behind_layer_norm,
    move_behind_affine,
    move_behind_sum,
    move_behind_product,
)
"""The rules of a first walk of `rewrite`, after which no rearrangement is left that was not needed."""

RULES: tuple[Rule, ...] = (
    remove_identity,
    fuse_activation,
    compose_affine,
    fold_affine,
    fuse_residual,
    recognize_swish,
    simplify_reshapes,
    push_stride_to_producer,
    push_stride_to_consumer,
    merge_places,
)
"""The rules of a second walk; each operator is given to the first of them that applies."""

PASSES: tuple[Pass, ...] = (
    remove_dead_code,
    partial(rewrite, rules=REARRANGING_RULES),
    remove_dead_code,
    partial(rewrite, rules=RULES),
    remove_dead_code,
    unfused_to_fallbacks,
    small_operators_to_fallbacks,
    reshapes_to_fallbacks,
    partition_fallbacks,
    remove_dead_code,
)


def optimize(graph: Graph) -> Graph:
    """Return the same network with fewer operators; results change by rounding only, and `graph` stays as it is."""
    for run_pass in PASSES:
        graph = run_pass(graph)
    return graph
