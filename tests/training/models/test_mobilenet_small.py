import pytest
import torch

from gpmt.core.scope.scope import find_scope
from gpmt.training.models.mobilenet_small import InvertedResidual, MobileNetSmall


def without_projection(in_channels: int, channels: int, stride: int) -> InvertedResidual:
    block = InvertedResidual(in_channels, channels, stride).eval()
    torch.nn.init.zeros_(block.project.weight)
    return block


def test_an_input_of_the_same_shape_is_added():
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(without_projection(4, 4, 1)(x), x)


@pytest.mark.parametrize(("channels", "stride", "size"), [(4, 2, 3), (6, 1, 6), (6, 2, 3)])
def test_elsewhere_the_convolutions_are_the_only_path(channels, stride, size):
    out = without_projection(4, channels, stride)(torch.randn(2, 4, 6, 6))
    assert out.shape == (2, channels, size, size)
    assert not out.any()


def test_only_the_third_block_has_a_shortcut():
    assert [block.has_shortcut for block in MobileNetSmall().blocks] == [False, False, True, False, False]


def test_every_convolution_and_the_classifier_are_prunable():
    found = find_scope(MobileNetSmall())
    assert len(found.tensors) == 1 + 3 * 5 + 1
    assert found.tensors["blocks.2.depthwise.weight"].shape == (128, 1, 3, 3)
    assert found.tensors["classifier.weight"].shape == (10, 64)


def test_hidden_values_stay_below_six():
    block = InvertedResidual(1, 1, 1).eval()
    seen = []
    for layer in (block.depthwise, block.project):
        layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    block(torch.full((1, 1, 4, 4), 1e3))
    assert all(0 <= hidden.min() <= hidden.max() <= 6 for hidden in seen)
    assert len(seen) == 2
