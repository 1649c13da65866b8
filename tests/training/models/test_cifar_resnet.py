import pytest
import torch

from gpmt.training.models import build, construct
from gpmt.training.models.cifar_resnet import BasicBlock


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (32, 464_154), (56, 853_018)])
def test_parameter_counts_are_the_published_ones(depth, parameters):
    network = construct(f"resnet{depth}", num_classes=10, input_shape=(3, 32, 32))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_names_are_those_of_the_checkpoints_in_circulation():
    names = list(build("resnet20", num_classes=10, input_shape=(3, 32, 32)).state_dict())
    assert names[:2] == ["conv1.weight", "bn1.weight"]
    assert "layer1.0.conv1.weight" in names
    assert "layer3.2.bn2.running_var" in names
    assert names[-2:] == ["linear.weight", "linear.bias"]
    assert not [name for name in names if "shortcut" in name or "downsample" in name]


def test_shortcut_subsamples_and_pads_channels_with_zeros():
    x = torch.randn(2, 16, 8, 8)
    shortcut = BasicBlock(16, 32, 2).shortcut(x)
    assert shortcut.shape == (2, 32, 4, 4)
    assert torch.equal(shortcut[:, 8:24], x[:, :, ::2, ::2])
    assert not shortcut[:, :8].any()
    assert not shortcut[:, 24:].any()
