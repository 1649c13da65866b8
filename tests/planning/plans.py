"""Small plans that several tests use."""

import torch
from torch import Tensor

from gpmt.core.blocks.blocks import Blocks, Split
from gpmt.planning.decide import decide
from gpmt.planning.plan import Plan

THIRDS = Blocks((Split.equal(0, 6, ("q", "k", "v")),))


def weights(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "attn.qkv.weight": torch.randn(6, 10, generator=generator),
        "fc.weight": torch.randn(5, 8, generator=generator),
    }


def divided_plan(state: dict[str, Tensor] | None = None, **options) -> Plan:
    """Plan 100 weights in four blocks, three of them in one tensor."""
    request = {"sparsity": 0.75, "min_kept": 2, "blocks": {"attn.qkv.weight": THIRDS}} | options
    [plan] = decide(weights() if state is None else state, [request.pop("sparsity")], **request)
    return plan
