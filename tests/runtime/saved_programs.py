"""A network with everything that a saved program can hold, and functions that save, open and compare programs."""

import torch
from tests.runtime.networks import Lambda, noise, scramble
from torch import nn
from torch.utils._pytree import tree_flatten

import gpmt
from gpmt.runtime.program import load_program


def compiled(network, *inputs):
    return gpmt.compile(network.eval(), inputs, threads=1, tune=False)


def opened(path):
    return load_program(path, threads=1, tune=False)


def same(one, other):
    (parts, structure), (others, other_structure) = tree_flatten(one), tree_flatten(other)
    assert structure == other_structure
    for part, right in zip(parts, others, strict=True):
        if isinstance(part, torch.Tensor):
            assert part.dtype == right.dtype
            assert torch.equal(part, right)
        else:
            assert part == right or part != part


def pruned():
    """All kinds of operators, also on PyTorch, constants, and parts of the result that are not tensors."""

    def forward(s, x, ids):
        y = s.silu(s.norm(s.first(x)))
        y = s.second(y) + y
        y = torch.cat([s.depthwise(y), s.pool(y), s.mean(y)], 1)
        y = s.last(y).clamp(-1, torch.inf)
        large = nn.functional.interpolate(y[:, 1:3], scale_factor=2) * y[:, :2].mean((2, 3), keepdim=True)
        z = y.mean((2, 3))
        table = nn.functional.embedding(ids, s.table)
        return {"z": s.head(z), "parts": (y, [table.softmax(-1), 3, None, float("nan")])}, large, "text"

    torch.manual_seed(0)
    network = scramble(
        Lambda(
            forward,
            first=nn.Conv2d(3, 8, 3, 2, 1),
            norm=nn.BatchNorm2d(8),
            silu=nn.SiLU(),
            second=nn.Conv2d(8, 8, (1, 3), padding=(0, 1), bias=False),
            depthwise=nn.Conv2d(8, 8, 3, padding=1, groups=8),
            pool=nn.MaxPool2d(3, 1, 1),
            mean=nn.AvgPool2d(3, 1, 1, count_include_pad=False),
            last=nn.Conv2d(24, 6, 1, groups=2),
            head=nn.Linear(6, 5),
            table=noise(7, 4),
        )
    )
    gpmt.prune_(network, sparsity=0.6)
    return network


INPUTS = noise(2, 3, 12, 10), torch.tensor([[1, 2], [0, 6]])
