"""Slow definitions of active weights: by what changes when the input does, and by sums over paths."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INPUTS = 3
"""Random inputs; what depends on the input differs between some of them."""


def masked(model: nn.Module, kept: dict[str, Tensor]) -> nn.Module:
    """Return a copy in float64 and evaluation mode with pruned weights at zero and all other parameters random."""
    result = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            parameter.copy_(torch.randn_like(parameter) + 0.1)
            if name in kept:
                parameter.mul_(kept[name])
        for name, buffer in result.named_buffers():
            if buffer.is_floating_point() and "running" in name:
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    return result


def active_by_change(model: nn.Module, shape: tuple[int, ...], kept: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return for linear layers and convolutions the kept weights that multiply what depends on the input, and add to
    what the output depends on."""
    network = masked(model, kept)
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def hook(name: str):
        def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            output.retain_grad()
            seen.setdefault(name, []).append((args[0].detach(), output))

        return keep

    weights = {id(parameter): name for name, parameter in network.named_parameters() if name in kept}
    layers = {name: m for name, m in network.named_modules() if id(getattr(m, "weight", None)) in weights}
    for name, layer in layers.items():
        layer.register_forward_hook(hook(name))
    calls = {}
    for _ in range(INPUTS):
        seen.clear()
        output = network(torch.randn(1, *shape, dtype=torch.float64))
        if output.requires_grad:
            (output * torch.randn_like(output)).sum().backward()
        for name, found in seen.items():
            for index, (source, result) in enumerate(found):
                grad = torch.zeros_like(result) if result.grad is None else result.grad
                calls.setdefault((name, index), []).append((source, grad))
    active = {name: torch.zeros_like(mask) for name, mask in kept.items()}
    for (name, _), runs in calls.items():
        reached = torch.stack([source != runs[0][0] for source, _ in runs]).any(0).double()
        used = torch.stack([grad != 0 for _, grad in runs]).any(0).double()
        weight = weights[id(layers[name].weight)]
        active[weight] |= _links(layers[name], reached, used) & kept[weight]
    return active


def _links(layer: nn.Module, reached: Tensor, used: Tensor) -> Tensor:
    weight = torch.ones_like(layer.weight, requires_grad=True)
    if isinstance(layer, nn.Linear):
        result = F.linear(reached, weight)
    else:
        transposed = isinstance(layer, nn.ConvTranspose2d)
        more = (layer.output_padding,) if transposed else ()
        function = F.conv_transpose2d if transposed else F.conv2d
        last = (layer.groups, layer.dilation) if transposed else (layer.dilation, layer.groups)
        result = function(reached, weight, None, layer.stride, layer.padding, *more, *last)
    return torch.autograd.grad((result * used).sum(), weight)[0] > 0.5


def active_by_paths(model: nn.Module, shape: tuple[int, ...], kept: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with w · ∂R/∂w ≠ 0: R sums the outputs, for ones, of a linear network of positive ones."""
    network = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.rand_like(parameter) + 0.5 if name in kept else torch.zeros_like(parameter))
            if name in kept:
                parameter.mul_(kept[name])
    network(torch.ones(1, *shape, dtype=torch.float64)).sum().backward()
    parameters = dict(network.named_parameters())
    return {
        name: torch.zeros_like(mask)
        if (grad := parameters[name].grad) is None
        else (parameters[name] * grad).ne(0)
        for name, mask in kept.items()
    }
