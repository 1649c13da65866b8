"""Attention in all the ways that networks write it becomes one operator."""

import math

import pytest
import torch
from tests.runtime.networks import Lambda, check, noise
from torch import nn
from torch.nn import functional as F

from gpmt.runtime.ir.operators import Attention

X = noise(2, 5, 8)


def layers():
    torch.manual_seed(0)
    names = {f"l{i}": nn.Linear(8, 8) for i in range(3)}
    position = noise(1, 2, 5, 5)
    return names | {"qkv": nn.Linear(8, 24), "bias": position, "wide": noise(2, 2, 5, 5)}


def heads(s, x):
    return [layer(x).view(len(x), -1, 2, 4).transpose(1, 2) for layer in (s.l0, s.l1, s.l2)]


def joined(y):
    return y.transpose(1, 2).reshape(len(y), -1, 8)


def by_products(s, x, mask=None, scaled="scores"):
    q, k, v = heads(s, x)
    if scaled == "query":
        q = q * 0.5
    scores = q @ k.transpose(-2, -1)
    if scaled == "scores":
        scores = scores / math.sqrt(4)
    if mask is not None:
        scores = scores + mask
    return joined(F.dropout(scores.softmax(-1), 0.1, False) @ v)


def fused(s, x):
    q, k, v = s.qkv(x).reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
    return joined(F.scaled_dot_product_attention(q, k, v))


def batched(s, x):
    """As nn.MultiheadAttention multiplies: tokens first, and heads beside samples."""
    q, k, v = (layer(x.transpose(0, 1)).view(5, 4, 4).transpose(0, 1) for layer in (s.l0, s.l1, s.l2))
    y = torch.bmm((torch.bmm(q, k.transpose(1, 2)) * 0.5).softmax(-1), v)
    return y.transpose(0, 1).reshape(5, 2, 8).transpose(0, 1)


CASES = {
    "heads": lambda s, x: joined(F.scaled_dot_product_attention(*heads(s, x), scale=0.3)),
    "causal": lambda s, x: joined(F.scaled_dot_product_attention(*heads(s, x), is_causal=True)),
    "causal mask": lambda s, x: joined(
        F.scaled_dot_product_attention(*heads(s, x), attn_mask=torch.ones(5, 5, dtype=torch.bool).tril())
    ),
    "constant mask": lambda s, x: joined(
        F.scaled_dot_product_attention(*heads(s, x), attn_mask=s.bias[0, 0])
    ),
    "bias of heads": lambda s, x: joined(F.scaled_dot_product_attention(*heads(s, x), attn_mask=s.bias)),
    "bias of samples": lambda s, x: joined(F.scaled_dot_product_attention(*heads(s, x), attn_mask=s.wide)),
    "fused": fused,
    "chunks": lambda s, x: joined(
        F.scaled_dot_product_attention(
            *(p.unflatten(2, (2, 4)).transpose(1, 2) for p in s.qkv(x).chunk(3, -1))
        )
    ),
    "products": by_products,
    "scaled query": lambda s, x: by_products(s, x, scaled="query"),
    "products and bias": lambda s, x: by_products(s, x, s.bias),
    "batched": batched,
}


@pytest.mark.parametrize("case", CASES)
def test_attention(case):
    graph = check(Lambda(CASES[case], **layers()), X)
    linears = 1 if case in ("fused", "chunks") else 3
    assert [type(operator).__name__ for operator in graph.operators] == ["Linear"] * linears + ["Attention"]
    (attention,) = (operator for operator in graph.operators if isinstance(operator, Attention))
    assert attention.causal == case.startswith("causal")
    assert (attention.bias is not None) == ("bias" in case or case == "constant mask")
    assert attention.first == ((0, 8, 16) if linears == 1 else (0, 0, 0))


@pytest.mark.parametrize("shape", [(2, 1, 1, 5), (2, 1, 5, 5), (1, 1, 5, 5), (5, 5)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_masks_that_are_computed(shape, dtype):
    def function(s, x, mask):
        return joined(F.scaled_dot_product_attention(*heads(s, x), attn_mask=mask))

    mask = noise(*shape) if dtype == torch.float32 else noise(*shape) > -0.5
    if dtype == torch.bool:
        mask[..., 0] = True
    graph = check(Lambda(function, **layers()), X, mask)
    (attention,) = (operator for operator in graph.operators if isinstance(operator, Attention))
    assert attention.mask is not None


def test_a_mask_that_is_added_to_scores():
    graph = check(Lambda(lambda s, x, mask: by_products(s, x, mask), **layers()), X, noise(2, 1, 1, 5))
    assert [type(operator).__name__ for operator in graph.operators] == ["Linear"] * 3 + ["Attention"]


def test_keys_of_other_tokens():
    def function(s, x, other):
        q, (_, k, v) = heads(s, x)[0], heads(s, other)
        return joined(F.scaled_dot_product_attention(q, k, v))

    graph = check(Lambda(function, **layers()), X, noise(2, 7, 8))
    assert sum(isinstance(operator, Attention) for operator in graph.operators) == 1


def test_heads_that_were_computed_apart_are_samples():
    """As rotary embeddings leave them."""

    def function(s, x):
        return joined(F.scaled_dot_product_attention(*(part.sin() for part in heads(s, x))))

    graph = check(Lambda(function, **layers()), X)
    (attention,) = (operator for operator in graph.operators if isinstance(operator, Attention))
    assert graph.values[attention.query].shape == (4, 5, 4)
    assert attention.heads == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: (lambda q, k, v: (q @ k.transpose(2, 3)).softmax(-1).exp() @ v)(*heads(s, x)),
        lambda s, x: (lambda q, k, v: (lambda p: (p, p @ v))((q @ k.transpose(2, 3)).softmax(-1)))(*heads(s, x)),
    ],
    ids=["no attention", "shares are returned"],
)  # fmt: skip
def test_what_stays_on_pytorch(function):
    graph = check(Lambda(function, **layers()), X)
    assert not any(isinstance(operator, Attention) for operator in graph.operators)
