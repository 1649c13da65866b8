import torch
from torch.nn import functional as F

from gpmt.reachability.contractions import contract
from gpmt.reachability.signal import Signal
from tests.reachability.signals import apply, constant, parts, reached

aten = torch.ops.aten
WEIGHT = Signal(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))


def test_linear_layers_pass_what_kept_weights_read() -> None:
    assert parts(apply(aten.linear.default, reached(1, 0), WEIGHT)[0]) == ([1, 0, 0], [1, 0, 0])
    bias = constant(0, 0, 1)
    assert parts(apply(aten.linear.default, reached(1, 0), WEIGHT, bias)[0]) == ([1, 0, 1], [1, 0, 0])
    row, columns = Signal(torch.ones(1, 2), torch.eye(2)[:1]), WEIGHT.changed(torch.t)
    assert parts(apply(aten.addmm.default, bias, row, columns)[0])[1] == [[1, 0, 0]]
    assert parts(apply(aten.matmul.default, row, columns)[0]) == ([[1, 1, 0]], [[1, 0, 0]])
    assert parts(apply(aten.einsum.default, "ab,cb->ac", [row, WEIGHT])[0])[1] == [[1, 0, 0]]


def test_a_constant_of_a_weight_and_a_constant_is_no_weight() -> None:
    weight = torch.ones(2, 2, requires_grad=True)
    assert not contract(F.linear, constant(1, 1), Signal(weight)).nonzero.requires_grad
    assert contract(torch.mm, Signal(weight), Signal(weight)).nonzero.requires_grad


def test_both_factors_of_a_product_pass() -> None:
    one = Signal(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    other = Signal(torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0], [0.0]]))
    assert parts(contract(torch.mm, one, other)) == ([[1]], [[1]])
    nothing = Signal(torch.zeros(2, 1), torch.zeros(2, 1))
    assert parts(contract(torch.mm, one, nothing)) == ([[0]], [[0]])


def test_a_padded_convolution_reads_padding() -> None:
    weight = torch.ones(1, 1, 3, 3, requires_grad=True)
    source = Signal(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    found = apply(aten.conv2d.default, source, Signal(weight), None, [1, 1], [1, 1])[0]
    (grad,) = torch.autograd.grad(found.by_input.sum(), weight)
    assert grad.flatten().tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_bilinear_layers() -> None:
    one, other = Signal(torch.ones(1, 2), torch.eye(2)[:1]), Signal(torch.ones(1, 2))
    weight = torch.zeros(2, 2, 2)
    weight[0, 0, 1] = weight[1, 1, 1] = 1
    assert parts(apply(aten.bilinear.default, one, other, Signal(weight))[0]) == ([[1, 1]], [[1, 0]])


def test_attention_without_queries_weighs_all_the_same() -> None:
    shape = (1, 1, 3, 2)
    dead, value = Signal(torch.zeros(shape)), torch.zeros(shape)
    value[0, 0, 1, 0] = 1
    values = Signal(value, value.clone())
    found = apply(aten.scaled_dot_product_attention.default, dead, dead, values)[0]
    assert found.by_input[0, 0].tolist() == [[1, 0]] * 3
    causal = apply(aten.scaled_dot_product_attention.default, dead, dead, values, None, 0.0, True)[0]
    assert causal.by_input[0, 0].tolist() == [[0, 0], [1, 0], [1, 0]]


def test_grouped_queries() -> None:
    torch.manual_seed(0)
    query, key = (Signal(torch.ones(1, heads, 3, 2), torch.ones(1, heads, 3, 2)) for heads in (4, 2))
    found = apply(aten.scaled_dot_product_attention.default, query, key, key, enable_gqa=True)[0]
    assert found.by_input.all()
