"""Masks combined as sets of kept weights."""

import operator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpmt import Masks
from gpmt.errors import MaskError
from tests.test_masks import dense_masks, example


@given(dense_masks(), st.randoms())
def test_the_order_of_masks_is_that_of_sets(dense, random):
    smaller = {name: mask & torch.tensor(random.random() < 0.5) for name, mask in dense.items()}
    a, b = Masks.from_dense(smaller), Masks.from_dense(dense)
    assert a <= b
    assert (b <= a) == (a == b)


@st.composite
def pairs(draw):
    """Masks over the same tensors, the second in another order."""
    one = draw(dense_masks())
    bits = draw(st.lists(st.booleans(), min_size=16, max_size=16))
    other = {
        name: mask ^ torch.tensor(bits * (mask.numel() // 16 + 1))[: mask.numel()].view(mask.shape)
        for name, mask in reversed(one.items())
    }
    return one, other


@given(pairs())
def test_masks_combine_as_bool_tensors_do(pair):
    one, other = pair
    a, b = Masks.from_dense(one), Masks.from_dense(other)
    expected = {
        "and": (a & b, {name: mask & other[name] for name, mask in one.items()}),
        "or": (a | b, {name: mask | other[name] for name, mask in one.items()}),
        "minus": (a - b, {name: mask & ~other[name] for name, mask in one.items()}),
        "not": (~a, {name: ~mask for name, mask in one.items()}),
    }
    for operation, (found, dense) in expected.items():
        assert found == Masks.from_dense(dense), operation
        assert list(found) == list(one), operation
        assert found.total_kept == sum(int(mask.sum()) for mask in dense.values()), operation
    inside = all(bool((mask <= other[name]).all()) for name, mask in one.items())
    same = all(torch.equal(mask, other[name]) for name, mask in one.items())
    assert (a <= b) == (b >= a) == inside
    assert (a < b) == (b > a) == (inside and not same)
    assert ~~a == a
    assert a <= a | b
    assert not a < a & a


def test_the_bits_past_the_last_weight_stay_clear():
    inverse = ~example()
    assert inverse.packed("a.weight").tolist() == [0b11111101, 0xFF, 0b01111]
    assert inverse.packed("b.weight").tolist() == [0]
    assert inverse.total_kept == example().total_pruned


OTHERS = {
    r"^only one of the two has a mask of b\.weight, but masks combine over the same tensors; leave it out there, "
    "or give the other one a mask that keeps all of it or nothing$": {"a.weight": (3, 7)},
    r"^only one of the two has a mask of c\.weight, but": {
        "c.weight": (1,),
        "b.weight": (5,),
        "a.weight": (3, 7),
    },
    r"^a\.weight has shape \[3, 7\] in one of the two masks and \[7, 3\] in the other; these masks belong to "
    "different networks$": {"a.weight": (7, 3), "b.weight": (5,)},
}


@pytest.mark.parametrize("message", OTHERS)
@pytest.mark.parametrize("operation", [operator.and_, operator.or_, operator.sub, operator.le, operator.lt])
def test_masks_over_other_tensors_do_not_combine(operation, message):
    other = Masks.from_dense(
        {name: torch.ones(shape, dtype=torch.bool) for name, shape in OTHERS[message].items()}
    )
    with pytest.raises(MaskError, match=message):
        operation(example(), other)


@pytest.mark.parametrize("operation", [operator.and_, operator.or_, operator.sub, operator.le, operator.gt])
def test_masks_combine_with_masks_alone(operation):
    with pytest.raises(TypeError, match=r"not supported|unsupported operand"):
        operation(example(), dict(example()))
    assert example() != {}
