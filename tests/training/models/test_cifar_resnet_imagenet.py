import pytest
import torch
import torch.nn.functional as F

from gpmt.core.scope.scope import find_scope
from gpmt.training.models import construct
from gpmt.training.models.cifar_resnet_imagenet import BasicBlock, Bottleneck, CifarImageNetResNet


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_173_962), (50, 23_520_842)])
def test_parameter_counts_are_those_of_the_networks_in_circulation(depth, parameters):
    network = construct(f"cifar-resnet{depth}", num_classes=10, input_shape=(3, 32, 32))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "layers"), [(34, 34), (101, 101), (152, 152)])
def test_deeper_residual_networks_have_the_layers_of_their_name(depth, layers):
    network = construct(f"cifar-resnet{depth}", num_classes=10, input_shape=(3, 32, 32))
    assert len([name for name in find_scope(network).tensors if "shortcut" not in name]) == layers


def test_names_are_those_of_the_checkpoints_in_circulation():
    names = list(construct("cifar-resnet18", num_classes=10, input_shape=(3, 32, 32)).state_dict())
    assert {"conv1.weight", "bn1.weight", "layer4.1.conv2.weight", "linear.weight"} <= set(names)
    shortcuts = [name for name in names if "shortcut" in name and name.endswith("weight")]
    assert shortcuts == [f"layer{stage}.0.shortcut.{part}.weight" for stage in (2, 3, 4) for part in (0, 1)]


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_without_its_convolutions_a_block_is_its_shortcut(block):
    x = torch.randn(2, 8, 6, 6)
    made = block(8, 4, 2).eval()
    last = made.conv3 if block is Bottleneck else made.conv2
    torch.nn.init.zeros_(last.weight)
    shortcut = made.shortcut[1](F.conv2d(x, made.shortcut[0].weight, stride=2))
    torch.testing.assert_close(made(x), shortcut.relu())
    assert made(x).shape == (2, 4 * block.expansion, 3, 3)


def test_a_block_that_keeps_the_shape_adds_its_input():
    x = torch.randn(2, 8, 6, 6)
    for made, last in ((BasicBlock(8, 8, 1), "conv2"), (Bottleneck(8, 2, 1), "conv3")):
        torch.nn.init.zeros_(getattr(made, last).weight)
        assert torch.equal(made.eval()(x), x.relu())


def test_the_resolution_is_halved_three_times():
    network = CifarImageNetResNet(18, num_classes=3, input_shape=(3, 16, 16)).eval()
    hidden = network.bn1(network.conv1(torch.randn(1, 3, 16, 16)))
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        hidden = stage(hidden)
    assert hidden.shape == (1, 512, 2, 2)
