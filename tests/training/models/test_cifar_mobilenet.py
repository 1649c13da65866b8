import torch
import torch.nn.functional as F

from gpmt.core.scope.scope import find_scope
from gpmt.training.models import construct
from gpmt.training.models.cifar_mobilenet import CifarMobileNetV2, InvertedResidual


def test_the_parameter_count_is_that_of_the_networks_in_circulation():
    network = construct("cifar-mobilenetv2", num_classes=10, input_shape=(3, 32, 32))
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_296_922


def test_names_are_those_of_the_checkpoints_in_circulation():
    tensors = find_scope(CifarMobileNetV2(num_classes=10, input_shape=(3, 32, 32))).tensors
    assert list(tensors)[:4] == ["conv1.weight", *(f"layers.0.conv{i}.weight" for i in (1, 2, 3))]
    assert list(tensors)[-2:] == ["conv2.weight", "linear.weight"]
    shortcuts = [name for name in tensors if "shortcut" in name]
    assert shortcuts == [f"layers.{block}.shortcut.0.weight" for block in (0, 1, 10, 16)]


def test_a_block_with_stride_has_one_path():
    block = InvertedResidual(4, 6, expansion=2, stride=2).eval()
    x = torch.randn(2, 4, 8, 8)
    assert block(x).shape == (2, 6, 4, 4)
    torch.nn.init.zeros_(block.conv3.weight)
    assert not block(x).any()


def test_a_block_without_stride_adds_its_input_or_a_projection_of_it():
    x = torch.randn(2, 4, 8, 8)
    same, wider = (InvertedResidual(4, channels, expansion=2, stride=1).eval() for channels in (4, 6))
    for block in (same, wider):
        torch.nn.init.zeros_(block.conv3.weight)
    assert torch.equal(same(x), x)
    projected = wider.shortcut[1](F.conv2d(x, wider.shortcut[0].weight))
    torch.testing.assert_close(wider(x), projected)


def test_the_resolution_is_halved_three_times():
    network = CifarMobileNetV2(num_classes=5, input_shape=(3, 32, 32)).eval()
    hidden = network.layers(network.bn1(network.conv1(torch.randn(1, 3, 32, 32))))
    assert hidden.shape == (1, 320, 4, 4)
