"""Small networks of every kind of link, with the shape of one input."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Dense(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.inner(x)], 1)


def linear(bias: bool = False, act: type[nn.Module] = nn.Identity) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5, bias), act(), nn.Linear(5, 4, bias), act(), nn.Linear(4, 2, bias))


def plain(bias: bool = False, act: type[nn.Module] = nn.Identity) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=bias),
        act(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 3, 3, stride=2, padding=2, dilation=2, bias=bias),
        act(),
        nn.Flatten(),
        nn.Linear(3, 3, bias=bias),
    )


def residual(bias: bool = False, act: type[nn.Module] = nn.Identity) -> nn.Module:
    def block() -> nn.Module:
        return Residual(nn.Sequential(nn.Conv2d(4, 3, 1, bias=bias), act(), nn.Conv2d(3, 4, 1, bias=bias)))

    return nn.Sequential(
        nn.Conv2d(2, 4, 1, bias=bias),
        block(),
        block(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2, bias),
    )


def dense(bias: bool = False, act: type[nn.Module] = nn.Identity) -> nn.Module:
    return nn.Sequential(
        Dense(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, bias=bias), act())),
        Dense(nn.Sequential(nn.Conv2d(4, 2, 3, padding=1, bias=bias), act())),
        nn.Conv2d(6, 2, 1, bias=bias),
        nn.AvgPool2d(3, ceil_mode=True),
    )


def depthwise(bias: bool = False, act: type[nn.Module] = nn.Identity) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 1, bias=bias),
        nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=bias),
        act(),
        nn.Conv2d(6, 4, 1, groups=2, bias=bias),
        nn.ChannelShuffle(2),
        nn.Conv2d(4, 4, 1, groups=2, bias=bias),
    )


def transposed(bias: bool = False, act: type[nn.Module] = nn.Identity) -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(2, 4, 2, stride=2, bias=bias),
        act(),
        nn.ConvTranspose2d(4, 4, 3, padding=2, groups=2, bias=bias),
        nn.PixelShuffle(2),
        nn.Upsample(scale_factor=0.5, mode="nearest"),
        nn.Conv2d(1, 2, 1, bias=bias),
    )


LINEAR = {f.__name__: f for f in (linear, plain, residual, dense, depthwise, transposed)}
"""Linear networks without biases, or others."""


def shape_of(name: str) -> tuple[int, ...]:
    """Return the shape of one input of a network of `LINEAR`."""
    return (4,) if name == "linear" else (2, 4, 4)


class Excite(nn.Module):
    """Squeeze and excite; the gate is sigmoid or SiLU."""

    def __init__(self, gate: type[nn.Module] = nn.Sigmoid, bias: bool = True):
        super().__init__()
        self.first, self.down = nn.Conv2d(2, 4, 1, bias=bias), nn.Conv2d(4, 2, 1, bias=bias)
        self.up, self.gate, self.last = nn.Conv2d(2, 4, 1, bias=bias), gate(), nn.Conv2d(4, 2, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.first(x))
        return self.last(x * self.gate(self.up(F.silu(self.down(x.mean((2, 3), keepdim=True))))))


class Gated(nn.Module):
    """A gated MLP without biases, as in language models."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = (nn.Linear(*s, bias=False) for s in ((4, 6), (4, 6), (6, 4)))

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Attention(nn.Module):
    def __init__(self, bias: bool, causal: bool = False, fused: bool = True):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(4, 4, bias) for _ in range(4))
        self.causal, self.fused = causal, fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, 2)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            y = torch.softmax(q @ k.mT / 2, -1) @ v
        return self.out(y.transpose(1, 2).flatten(2))


def transformer(norm: type[nn.Module], bias: bool) -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 4, bias),
        Residual(nn.Sequential(norm(4), Attention(bias))),
        Residual(nn.Sequential(norm(4), Gated())),
        norm(4),
        nn.Linear(4, 2, bias),
    )


def norms(norm: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 1, bias=False),
        norm,
        nn.Tanh(),
        nn.Conv2d(4, 4, 1, bias=False),
        nn.Flatten(),
        nn.Linear(64, 2),
    )


class Tied(nn.Module):
    """One weight in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Token(nn.Module):
    """A learned token before the others, and an output that is read from its place."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.embed = nn.Parameter(torch.ones(1, 1, 4)), nn.Linear(3, 4)
        self.attention, self.last = Attention(True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x)], 1)
        return self.last((x + self.attention(x))[:, 0])


GENERAL = {
    "excite": (Excite, (2, 4, 4)),
    "excite-silu": (lambda: Excite(nn.SiLU, bias=False), (2, 4, 4)),
    "gated": (Gated, (4,)),
    "attention": (lambda: Attention(False), (3, 4)),
    "attention-bias": (lambda: Attention(True), (3, 4)),
    "attention-causal": (lambda: Attention(False, causal=True), (3, 4)),
    "attention-plain": (lambda: Attention(False, fused=False), (3, 4)),
    "layer-norm": (lambda: transformer(nn.LayerNorm, True), (3, 3)),
    "rms-norm": (lambda: transformer(nn.RMSNorm, False), (3, 3)),
    "batch-norm": (lambda: norms(nn.BatchNorm2d(4)), (2, 4, 4)),
    "group-norm": (lambda: norms(nn.GroupNorm(2, 4)), (2, 4, 4)),
    "instance-norm": (lambda: norms(nn.InstanceNorm2d(4)), (2, 4, 4)),
    "tied": (Tied, (4,)),
    "token": (Token, (3, 3)),
    **{f"{name}-tanh": (partial(LINEAR[name], True, nn.Tanh), shape_of(name)) for name in LINEAR},
    "glu": (lambda: nn.Sequential(nn.Linear(4, 6), nn.GLU(), nn.Linear(3, 2)), (4,)),
}
"""Networks with all that changes what passes: activations, biases, norms, gates, attention."""
