import pytest
import torch

from gpmt.runtime.onnx_frontend.call import Call, NotSupported, check_size, constant
from gpmt.runtime.onnx_frontend.node import Node
from gpmt.torch_private import FakeTensor, FakeTensorMode


def made(tensors, known=None, **attributes):
    node = Node("n", "Any", "", 18, 13, ("a",) * len(tensors), ("y", "z"), attributes)
    return Call(node, tensors, known or [True] * len(tensors), [True, False])


def test_inputs():
    call = made([torch.ones(2), None], known=[False, False])
    assert len(call) == 2
    assert call.optional(1) is call.optional(7) is None
    assert not call.is_known(0)
    assert (call.is_wanted(0), call.is_wanted(1), call.is_wanted(2)) == (True, False, False)
    with pytest.raises(NotSupported, match="its input 2 is missing"):
        call.tensor(1)
    with pytest.raises(NotSupported, match="its input 1 depends on values of the network's inputs"):
        call.numbers(0)


@pytest.mark.parametrize(
    ("tensor", "read", "sentence"),
    [
        (torch.ones(2, 2), "numbers", "its input 1 has 2 dimensions, not 1"),
        (torch.ones(2), "integers", "its input 1 does not hold integers"),
        (torch.ones(2), "number", "its input 1 holds 2 numbers, not one"),
    ],
)
def test_numbers_that_do_not_fit(tensor, read, sentence):
    with pytest.raises(NotSupported, match=sentence):
        getattr(made([tensor]), read)(0)


def test_attributes():
    call = made([], a=1, b=0.5, c="text", d=[1, 2])
    assert (call.integer("a", 0), call.integer("x", 7)) == (1, 7)
    assert (call.real("b", 0.0), call.text("c", ""), call.integer_list("d")) == (0.5, "text", [1, 2])
    assert call.integer_list("x") is None
    for read, name in ((call.integer, "b"), (call.text, "a"), (call.real, "c")):
        with pytest.raises(NotSupported, match=f"its attribute {name} is .*, not of the type"):
            read(name, {"integer": 0, "text": "", "real": 0.0}[read.__name__])
    with pytest.raises(NotSupported, match="its attribute a is not a list of integers"):
        call.integer_list("a")


def test_axes():
    call = made([])
    assert call.axes([0, -1], 3) == [0, 2]
    with pytest.raises(NotSupported, match="its axis is 3, but its input has 3 dimensions"):
        call.axis(3, 3)
    with pytest.raises(NotSupported, match="each can be there once only"):
        call.axes([0, -3], 3)


def test_sizes_have_a_limit():
    check_size([2**31])
    with pytest.raises(NotSupported, match=r"elements, more than 2,147,483,648"):
        check_size([2**31, 2])
    with pytest.raises(NotSupported, match=r"its result would have the shape \[-1\]"):
        check_size([-1])


def test_constants_have_data_everywhere():
    with FakeTensorMode():
        found = constant([1, 2], torch.int64)
    assert not isinstance(found, FakeTensor)
    assert found.tolist() == [1, 2]
