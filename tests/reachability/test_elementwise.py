import pytest
import torch

from gpmt.reachability.elementwise import add, multiply
from gpmt.reachability.signal import Signal
from tests.reachability.signals import apply, constant, parts, reached

aten = torch.ops.aten


def test_a_sum_passes_what_any_term_passes() -> None:
    assert parts(add(reached(1, 0, 0), constant(0, 1, 0))) == ([1, 1, 0], [1, 0, 0])


def test_a_product_passes_where_the_other_factor_is_not_always_zero() -> None:
    assert parts(multiply(reached(1, 1, 0), constant(1, 0, 1))) == ([1, 0, 0], [1, 0, 0])
    assert parts(multiply(reached(1, 1, 0), reached(1, 0, 1))) == ([1, 0, 0], [1, 0, 0])
    assert parts(multiply(constant(1, 0), constant(1, 1))) == ([1, 0], [0, 0])


@pytest.mark.parametrize(
    ("target", "args", "zero_stays"),
    [
        (aten.relu.default, (), True),
        (aten.gelu.default, (), True),
        (aten.silu.default, (), True),
        (aten.hardswish.default, (), True),
        (aten.hardtanh.default, (0.0, 6.0), True),
        (aten.hardtanh.default, (1.0, 6.0), False),
        (aten.clamp.default, (None, -1.0), False),
        (aten.sigmoid.default, (), False),
        (aten.hardsigmoid.default, (), False),
        (aten.exp.default, (), False),
        (aten.softplus.default, (), False),
        (aten.pow.Tensor_Scalar, (2,), True),
        (aten.pow.Tensor_Scalar, (-0.5,), False),
        (aten.mul.Scalar, (3,), True),
        (aten.div.Scalar, (3,), True),
        (aten.add.Scalar, (1,), False),
        (aten.rsub.Scalar, (1,), False),
        (aten.add.Scalar, (0,), True),
        (aten.to.dtype, (torch.float16,), True),
        (aten.fill.Scalar, (0.0,), None),
        (aten.eq.Scalar, (0.0,), False),
    ],
)
def test_where_zero_stays_zero(target: object, args: tuple[object, ...], zero_stays: bool | None) -> None:
    nonzero, passed = parts(apply(target, reached(1, 0), *args)[0])
    assert nonzero == ([0, 0] if zero_stays is None else [1, not zero_stays])
    assert passed == ([0, 0] if zero_stays is None else [1, 0])


def test_quotients_and_gates() -> None:
    assert parts(apply(aten.div.Tensor, reached(1, 0), reached(0, 1))[0]) == ([1, 0], [1, 0])
    assert parts(apply(aten.div.Tensor, constant(1, 1), reached(0, 1))[0]) == ([1, 1], [0, 1])
    assert parts(apply(aten.glu.default, reached(1, 0, 1, 0, 1, 1))[0]) == ([1, 0, 1], [1, 0, 1])
    condition = Signal(torch.ones(2), data=torch.tensor([True, False]))
    where = apply(aten.where.self, condition, reached(1, 0), constant(1, 1))
    assert parts(where[0]) == ([1, 1], [1, 0])


def test_elements_move() -> None:
    cat = apply(aten.cat.default, [reached(1, 0), constant(1, 0)])[0]
    assert parts(cat) == ([1, 0, 1, 0], [1, 0, 0, 0])
    one, other = apply(aten.chunk.default, reached(1, 0, 0, 1), 2)
    assert (parts(one)[1], parts(other)[1]) == ([1, 0], [0, 1])
    assert parts(apply(aten.copy.default, reached(1, 1), constant(0, 1))[0]) == ([0, 1], [0, 0])
    image = Signal(torch.ones(1, 1, 2, 2), torch.eye(2)[None, None])
    assert apply(aten.avg_pool2d.default, image, [1, 2])[0].by_input.flatten().tolist() == [1, 1]
    assert apply(aten.upsample_nearest2d.vec, image, [2, 4], None)[0].by_input.sum() == 4


def test_what_is_padded_is_not_reached() -> None:
    assert parts(apply(aten.constant_pad_nd.default, reached(1), [1, 1], 0.0)[0]) == ([0, 1, 0], [0, 1, 0])
    filled = apply(aten.constant_pad_nd.default, reached(1), [1, 1], float("-inf"))[0]
    assert parts(filled) == ([1, 1, 1], [0, 1, 0])
