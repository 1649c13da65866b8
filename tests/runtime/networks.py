"""Networks for tests of the runtime, and their comparison with PyTorch."""

import torch
from tests.runtime.reference import run
from torch import nn
from torch.utils._pytree import tree_leaves

from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.operators import Fallback
from gpmt.runtime.ir.validation import check_graph
from gpmt.runtime.passes.pipeline import PASSES


class Lambda(nn.Module):
    """A function of tensors as a network; modules and tensors by name become its parts."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def scramble(network, seed=0):
    """Give batch-norms random statistics and weights, so that folding them is tested."""
    generator = torch.Generator().manual_seed(seed)
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            with torch.no_grad():
                part.running_mean.normal_(0, 0.1, generator=generator)
                part.running_var.uniform_(0.5, 1.5, generator=generator)
                if part.affine:
                    part.weight.uniform_(0.5, 1.5, generator=generator)
                    part.bias.normal_(0, 0.1, generator=generator)
    return network.eval()


def small(**more):
    """Return a network that is native throughout."""
    torch.manual_seed(0)
    return scramble(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, **more),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 6, 3, stride=2),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 4),
        )
    )


def mixed():
    """Return a network with steps on PyTorch in between."""
    torch.manual_seed(0)
    return scramble(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.Softplus(), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3, stride=2)
        )
    )


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kinds(graph):
    """Return how many operators of each kind there are; those on PyTorch under their targets."""
    counts = {}
    for operator in graph.operators:
        name = operator.target if isinstance(operator, Fallback) else type(operator).__name__
        counts[name] = counts.get(name, 0) + 1
    return counts


def optimize_checked(graph):
    """Optimize a graph, and check before the first pass and after each one that it is legal."""
    check_graph(graph)
    for run_pass in PASSES:
        graph = run_pass(graph)
        check_graph(graph)
    return graph


def check(network, *inputs, optimized=None, captured=None, tolerance=1e-5):
    """Compare a network, captured and optimized, with itself; return its optimized graph.

    Args:
        captured, optimized: the operators to expect, as `kinds` has them.
        tolerance: of the largest output.
    """
    with torch.no_grad():
        expected = tree_leaves(network(*[tensor.clone() for tensor in inputs]))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    source, signature = capture(network, inputs)
    if captured is not None:
        assert kinds(source) == captured
    small = optimize_checked(source)
    for graph in (source, small):
        results = tree_leaves(signature.rebuild(run(graph, list(inputs))))
        assert len(results) == len(expected)
        for result, right in zip(results, expected, strict=True):
            if isinstance(right, torch.Tensor):
                assert (result.shape, result.dtype) == (right.shape, right.dtype)
                error = (result.double() - right.double()).abs().max() if right.numel() else 0
                assert error <= tolerance * max(1, right.double().abs().max() if right.numel() else 0), kinds(
                    graph
                )
            else:
                assert result == right
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    if optimized is not None:
        assert kinds(small) == optimized
    return small
