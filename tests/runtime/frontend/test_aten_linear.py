"""Products with a constant matrix."""

import pytest
import torch
from tests.runtime.frontend.translated import check_fallback
from tests.runtime.networks import Lambda, check, kinds, noise
from torch import nn
from torch.nn import functional as F


@pytest.mark.parametrize(
    ("make", "shape", "reason"),
    [
        (lambda: Lambda(lambda s, x: F.linear(x, x[:2])), (3, 5), "its weight is computed"),
        (
            lambda: Lambda(lambda s, x: torch.addmm(s.b, x, s.w, beta=2), b=noise(4), w=noise(5, 4)),
            (3, 5),
            "scaled",
        ),
        (lambda: nn.Linear(5, 2), (5,), "not a batch"),
    ],
)
def test_fallbacks(make, shape, reason):
    check_fallback(make, shape, reason)


@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: s.linear(x),
        lambda s, x: F.linear(x, s.w),
        lambda s, x: x @ s.w.t(),
        lambda s, x: torch.matmul(x, s.t) + 0 * x.sum(),
        lambda s, x: torch.addmm(s.b, x.reshape(-1, 5), s.t),
        lambda s, x: torch.addmm(s.b[:1], x.reshape(-1, 5), s.t),
        lambda s, x: torch.mm(x.reshape(-1, 5), s.t),
        lambda s, x: F.relu(s.linear(x)),
        lambda s, x: F.silu(s.linear(x), inplace=True),
        lambda s, x: F.linear(x, s.w * 2 + s.w.abs()),
    ],
)
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (2, 3, 4, 5)])
def test_linear(function, shape):
    torch.manual_seed(0)
    parts = {"linear": nn.Linear(5, 4), "w": noise(4, 5), "t": noise(5, 4), "b": noise(4)}
    graph = check(Lambda(function, **parts), noise(*shape))
    assert kinds(graph)["Linear"] == 1
