"""Pruned networks to run: usual ones with random weights and settled batch norms, or with the weights of a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import gpmt
from gpmt.training.models import construct
from gpmt.training.weights import load_weights

VARIANCE_FLOOR = 0.1
"""Of a layer's mean variance: what is all but constant is not blown up, or outputs would be rounding errors."""


@dataclass(frozen=True)
class Network:
    """A network, and what it takes.

    Attributes:
        factory: as gpmt.training.models names it; empty for an encoder.
        shape: of an image, channels, height and width; or (tokens,).
        encoder: layers, features and heads of an encoder of tokens.
    """

    title: str
    factory: str
    shape: tuple[int, ...]
    classes: int
    encoder: tuple[int, int, int] | None = None

    def example(self, batch: int) -> Tensor:
        """Return a batch of random inputs, always the same one."""
        generator = torch.Generator().manual_seed(batch)
        if self.encoder is not None:
            return torch.randint(0, VOCABULARY, (batch, *self.shape), generator=generator)
        return torch.randn(batch, *self.shape, generator=generator)


VOCABULARY = 30_522
"""Rows of the table of tokens, as BERT has them."""


NETWORKS = {
    "resnet50": Network("ResNet-50", "torchvision:resnet50", (3, 224, 224), 1000),
    "mobilenetv1": Network("MobileNet-V1", "timm:mobilenetv1_100", (3, 224, 224), 1000),
    "efficientnet-lite0": Network("EfficientNet-Lite0", "timm:efficientnet_lite0", (3, 224, 224), 1000),
    "efficientnet-b2": Network("EfficientNet-B2", "timm:efficientnet_b2", (3, 256, 256), 1000),
    "wrn-28-8": Network("WRN-28-8", "wrn-28-8", (3, 32, 32), 10),
    "convnext-tiny": Network("ConvNeXt-Tiny", "torchvision:convnext_tiny", (3, 224, 224), 1000),
    "vit-small": Network("ViT-S/16", "timm:vit_small_patch16_224", (3, 224, 224), 1000),
    "minilm": Network("MiniLM-like, 128 tokens", "", (128,), 2, (6, 384, 12)),
    "bert-base": Network("BERT-base-like, 128 tokens", "", (128,), 2, (12, 768, 12)),
}


@dataclass(frozen=True)
class Pruning:
    """How much to prune and where.

    Attributes:
        label: what tables call it, such as "90 %".
        sparsity, allocation, exclude: as `gpmt.prune_` takes them; "global" is its "exact".
        kept: weights to keep by tensor, instead of all these.
    """

    label: str
    sparsity: float = 0.0
    allocation: str = "uniform"
    exclude: tuple[str, ...] = ()
    kept: Mapping[str, int] | None = None


def build(network: Network, checkpoint: Path | None) -> nn.Module:
    """Return a network in evaluation mode, with the weights of a file that gpmt reads, or random ones."""
    torch.manual_seed(0)
    if network.encoder is not None:
        model: nn.Module = Encoder(*network.encoder, network.shape[0], network.classes)
    else:
        channels, height, width = network.shape
        model = construct(network.factory, num_classes=network.classes, input_shape=(channels, height, width))
    if checkpoint is not None:
        load_weights(model, checkpoint, name=network.factory)
    else:
        for norm in batch_norms(model):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
    return model.eval()


class EncoderLayer(nn.Module):
    """A layer of BERT, with attention as products and softmax, which exporters of any age know."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.merge = (nn.Linear(features, features) for _ in range(4))
        self.wide, self.narrow = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)
        self.first_norm, self.second_norm = nn.LayerNorm(features), nn.LayerNorm(features)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens [batch, tokens, features] for tokens."""
        batch, count, features = tokens.shape
        size = features // self.heads
        query, key, value = (
            layer(tokens).view(batch, count, self.heads, size).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        shares = (query @ key.transpose(2, 3) / size**0.5).softmax(-1)
        heads = (shares @ value).transpose(1, 2).reshape(batch, count, features)
        tokens = self.first_norm(tokens + self.merge(heads))
        result: Tensor = self.second_norm(tokens + self.narrow(nn.functional.gelu(self.wide(tokens))))
        return result


class Encoder(nn.Module):
    """An encoder like BERT: tokens and positions, layers, and logits of the first token."""

    def __init__(self, layers: int, features: int, heads: int, tokens: int, classes: int) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, features)
        self.register_buffer("positions", torch.randn(tokens, features))
        self.norm = nn.LayerNorm(features)
        self.layers = nn.Sequential(*(EncoderLayer(features, heads) for _ in range(layers)))
        self.head = nn.Linear(features, classes)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits [batch, classes] for integers [batch, tokens]."""
        logits: Tensor = self.head(self.layers(self.norm(self.table(ids) + self.positions))[:, 0])
        return logits


def prune(model: nn.Module, pruning: Pruning) -> None:
    """Set weights to zero. Raises `GpmtError` where the network has no such tensors or not so many weights."""
    if pruning.kept is not None:
        keep(model, pruning.kept)
    elif pruning.allocation == "global":
        gpmt.prune_(model, sparsity=pruning.sparsity, exclude=pruning.exclude)
    else:
        tables = [f"{name}.weight" for name, part in model.named_modules() if isinstance(part, nn.Embedding)]
        excluded = [*pruning.exclude, *depthwise(model), *tables]
        gpmt.prune_(model, sparsity=pruning.sparsity, allocation="uniform", exclude=excluded)


def depthwise(model: nn.Module) -> list[str]:
    """Return the weights of convolutions of single channels: at 95 %, most channels of 3×3 would be dead."""
    return [
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
    ]


def keep(model: nn.Module, kept: Mapping[str, int]) -> None:
    """Keep so many of the largest weights of each named tensor, and of other tensors all."""
    tensors = dict(model.named_parameters())
    for name, count in kept.items():
        if name not in tensors or not 0 <= count <= tensors[name].numel():
            problem = f"of {tensors[name].numel():,}" if name in tensors else "of a tensor it does not have"
            raise gpmt.GpmtError(
                f"{name} would keep {count:,} weights {problem}; give the counts of this network"
            )
    with torch.no_grad():
        for name, count in kept.items():
            flat = tensors[name].view(-1)
            flat[flat.abs().argsort(descending=True, stable=True)[count:]] = 0


def read_counts(path: Path) -> dict[str, int]:
    """Return the kept weights by tensor from what ``gpmt inspect --json`` printed. Raises `GpmtError`."""
    try:
        return {row["name"]: int(row["kept"]) for row in json.loads(path.read_text())["tensors"]}
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise gpmt.GpmtError(f"{path} is not what gpmt inspect --json prints ({reason})") from error


def settle(model: nn.Module, images: Tensor) -> None:
    """Give batch norms the statistics of their inputs for `images`, as training would: outputs keep their scale."""
    model.eval()
    norms = list(batch_norms(model))
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # statistics of all that is seen, here one batch
        norm.train()
    with torch.no_grad():
        model(images)
    for norm in norms:
        norm.momentum = 0.1
        variance = norm.running_var
        assert variance is not None
        variance.clamp_(min=max(float(variance.mean()) * VARIANCE_FLOOR, 1e-6))
    model.eval()


def responds(model: nn.Module, images: Tensor) -> bool:
    """Tell whether outputs for two images differ: else a layer is dead, and the network measures nothing."""
    with torch.inference_mode():
        one, other = model(images[:2])
    return bool((one - other).abs().max() > 1e-3 * one.abs().max())


def batch_norms(model: nn.Module) -> Iterable[nn.BatchNorm2d]:
    return (module for module in model.modules() if isinstance(module, nn.BatchNorm2d))


def kept_share(model: nn.Module) -> float:
    """Return the share of the prunable weights that are not zero."""
    tensors = gpmt.find_scope(model).tensors.values()
    return sum(int(t.count_nonzero()) for t in tensors) / sum(t.numel() for t in tensors)
