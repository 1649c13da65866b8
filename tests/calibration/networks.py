"""Small networks of many kinds with batches for them, and gradients found the slow way."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpmt.core.scope.scope import find_scope

Case = tuple[nn.Module, list[Any]]

SMALL = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 30,
    "max_position_embeddings": 20,
}


def conv() -> Case:
    """A convolution with batch norm in training mode, one of its layers frozen, and batches of different sizes."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(16, 3)
    )
    model[1].running_mean.uniform_(-1, 1)
    model[1].running_var.uniform_(0.5, 2)
    model[0].weight.requires_grad_(False)
    return model, [(torch.randn(n, 3, 4, 4), torch.arange(n) % 3) for n in (4, 3)]


def half() -> Case:
    """The same in bfloat16."""
    model, batches = conv()
    return model.bfloat16(), batches


def double() -> Case:
    """The same in float64."""
    model, batches = conv()
    return model.double(), batches


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(torch.tanh(self.first(x))))


def tied() -> Case:
    """Two layers with one weight."""
    return Tied(), [(torch.randn(4, 4), torch.tensor([0, 1, 2, 0]))]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x)[0].mean(1))


def attention() -> Case:
    """Self-attention with a fused projection."""
    return Attention(), [(torch.randn(3, 5, 4), torch.tensor([0, 1, 2]))]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def lstm() -> Case:
    """A recurrent layer."""
    return Recurrent(), [(torch.randn(3, 5, 3), torch.tensor([0, 1, 2]))]


def bert() -> Case:
    """A text classifier of transformers, which finds its own loss."""
    transformers = pytest.importorskip("transformers", reason="gpmt[hf] is not installed")
    tokens = torch.randint(0, 30, (3, 6))
    batch = {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "labels": torch.tensor([0, 1, 2]),
    }
    config = transformers.BertConfig(**SMALL, num_labels=3)
    return transformers.BertForSequenceClassification(config), [batch]


def mixtral() -> Case:
    """A text generator of transformers whose experts are stacked in tensors of three dimensions."""
    transformers = pytest.importorskip("transformers", reason="gpmt[hf] is not installed")
    tokens = torch.randint(0, 30, (3, 6))
    config = transformers.MixtralConfig(**SMALL, num_key_value_heads=1, num_local_experts=3, head_dim=4)
    return transformers.MixtralForCausalLM(config), [{"input_ids": tokens, "labels": tokens}]


CASES: dict[str, Callable[[], Case]] = {
    made.__name__: made for made in (conv, half, double, tied, attention, lstm, bert, mixtral)
}


def make(name: str) -> Case:
    """Return one of the cases, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CASES[name]()


def slow_loss(model: nn.Module, batch: Any) -> Tensor:
    """The loss of a batch, as a user would write it."""
    if isinstance(batch, dict):
        return model(**batch).loss
    inputs, target = batch
    dtype = next(model.parameters()).dtype
    return F.cross_entropy(model(inputs.to(dtype)).to(torch.promote_types(dtype, torch.float32)), target)


def slow_gradients(
    model: nn.Module, batches: list[Any], *, training: bool = False
) -> dict[str, list[Tensor]]:
    """The gradient of each batch for each prunable tensor, by `backward` on a copy."""
    model = copy.deepcopy(model).requires_grad_(True).train(training)
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.eval()
    found: dict[str, list[Tensor]] = {}
    for batch in batches:
        model.zero_grad()
        slow_loss(model, batch).backward()
        for name, weight in find_scope(model).tensors.items():
            found.setdefault(name, []).append(
                weight.grad.to(torch.promote_types(weight.dtype, torch.float32)).clone()
            )
    return found


def samples_of(batches: list[Any]) -> list[Any]:
    """Batches of one sample."""
    found = []
    for batch in batches:
        parts = list(batch.values()) if isinstance(batch, dict) else list(batch)
        for i in range(len(parts[0])):
            one = [part[i : i + 1] for part in parts]
            found.append(dict(zip(batch, one, strict=True)) if isinstance(batch, dict) else tuple(one))
    return found


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything that a score must leave as it was."""
    state: dict[str, Any] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state |= {f"{name}.grad": weight.grad for name, weight in model.named_parameters()}
    state |= {f"{name}.requires_grad": weight.requires_grad for name, weight in model.named_parameters()}
    state |= {f"{name}.training": part.training for name, part in model.named_modules()}
    state |= {f"{name}.hooks": len(part._forward_hooks) for name, part in model.named_modules()}
    return state | {"random": torch.get_rng_state()}


def assert_same_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Compare two states, gradients as objects."""
    assert before.keys() == after.keys()
    for name, value in before.items():
        other = after[name]
        same = value is other or (
            torch.equal(value, other)
            if isinstance(value, Tensor) and not name.endswith(".grad")
            else value == other
            if not isinstance(value, Tensor)
            else False
        )
        assert same, name
