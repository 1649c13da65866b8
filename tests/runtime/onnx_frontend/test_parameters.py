import pytest
import torch
from torch import nn

from gpmt.runtime.onnx_frontend.parameters import add_parameter


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["layer1.0.conv.weight"], ["layer1.0.conv.weight"]),
        (["onnx::Conv_7"], ["onnx::Conv_7"]),
        (["a", "a.b"], ["a", "a_1.b"]),
        (["a.b", "a"], ["a_1", "a.b"]),
        (["a..b", ".x", ""], ["_.x", "__1", "a._.b"]),
        (["forward", "training"], ["forward_1", "training_1"]),
        (["x.forward.y"], ["x.forward_1.y"]),
        ([".".join("a" * 20)], ["_".join("a" * 20)]),
        (["a" * 999], ["a" * 200]),
    ],
)
def test_any_name_is_one_of_a_parameter(names, expected):
    root = nn.Module()
    made = [add_parameter(root, name, torch.tensor([float(place)])) for place, name in enumerate(names)]
    found = dict(root.named_parameters())
    assert sorted(found) == sorted(expected)
    assert {id(value) for value in found.values()} == {id(value) for value in made}
    assert not any(value.requires_grad for value in made)
