"""Calls of attention, products of two values, and softmax."""

import pytest
import torch
from tests.runtime.frontend.translated import check_fallback
from tests.runtime.networks import Lambda, check, kinds, noise
from torch.nn import functional as F

from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.operators import HeadAttention

QKV = noise(2, 3, 5, 4), noise(2, 3, 7, 4, seed=1), noise(2, 3, 7, 4, seed=2)


def captured(function, *inputs):
    return capture(Lambda(lambda s, *given: function(*given)), inputs).graph


def test_attention():
    graph = captured(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.25), *QKV)
    (attention,) = graph.operators
    assert isinstance(attention, HeadAttention)
    assert (attention.scale, attention.mask, attention.bias, attention.causal) == (0.25, None, None, False)
    (attention,) = captured(F.scaled_dot_product_attention, *QKV).operators
    assert attention.scale == 0.5


def test_a_constant_mask_that_hides_later_keys_is_causal():
    def function(q):
        return F.scaled_dot_product_attention(q, q, q, torch.ones(5, 5, dtype=torch.bool).tril()[None, None])

    (attention,) = captured(function, QKV[0]).operators
    assert attention.causal
    assert attention.bias is None


def test_a_mask_is_made_once_for_several_attentions():
    def function(x, mask):
        y = F.scaled_dot_product_attention(x, x, x, attn_mask=mask)
        return F.scaled_dot_product_attention(y, y, y, attn_mask=mask)

    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[..., 3:] = False
    assert kinds(captured(function, QKV[0], mask)) == {"where, reshape": 1, "HeadAttention": 2}


@pytest.mark.parametrize(
    ("function", "shape", "reason"),
    [
        (lambda x: F.scaled_dot_product_attention(x, x[:, :1], x[:, :1]), (2, 3, 5, 4), "numbers of heads"),
        (lambda x: F.scaled_dot_product_attention(x, x, x[..., :2]), (2, 3, 5, 4), "of different sizes"),
        (
            lambda x: F.scaled_dot_product_attention(x, x, x, torch.zeros(2, 5, 5) + x[:, :, :1]), (2, 5, 4),
            "not one of queries",
        ),
        (lambda x: x @ x[:1].transpose(1, 2), (2, 5, 4), "different dimensions"),
        (lambda x: x.softmax(1), (2, 5, 4), "not over the last dimension"),
        (lambda x: x.softmax(-1, dtype=torch.float64), (2, 5, 4), "not over the last dimension"),
    ],
)  # fmt: skip
def test_fallbacks(function, shape, reason):
    check_fallback(lambda: Lambda(lambda s, x: function(x)), shape, reason)


def test_products_and_softmax_are_right():
    check(Lambda(lambda s, x: (x.bmm(x.transpose(1, 2)).softmax(-1), x @ x.transpose(1, 2))), noise(2, 5, 4))
