import pytest
import torch
import torch.nn.functional as F

from gpmt.training.models import construct
from gpmt.training.models.wide_resnet import WideBlock


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("wrn-28-10", 36_479_194),  # Zagoruyko & Komodakis 2016, table 5: 36.5 M
        ("wrn-16-8", 10_961_370),  # 11.0 M
        ("wrn-22-8", 17_158_106),  # table 4: 17.2 M
        ("wrn-40-4", 8_949_210),  # 8.9 M
        ("wrn-16-10", 17_116_634),  # table 4: 17.1 M
    ],
)
def test_parameter_counts_are_the_published_ones(name, parameters):
    network = construct(name, num_classes=10, input_shape=(3, 32, 32))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_names_are_those_of_the_checkpoints_in_circulation():
    names = list(construct("wrn-16-2", num_classes=10, input_shape=(3, 32, 32)).state_dict())
    shortcuts = [f"layer{stage}.0.shortcut.0.weight" for stage in (1, 2, 3)]
    assert [name for name in names if "shortcut" in name] == shortcuts
    assert {"conv1.weight", "bn1.weight", "layer3.1.conv2.weight", "linear.bias"} <= set(names)


@pytest.mark.parametrize(("in_channels", "stride"), [(4, 1), (3, 1), (4, 2)])
def test_wide_block_is_norm_relu_convolution_twice(in_channels, stride):
    block = WideBlock(in_channels, 4, stride).eval()
    block.bn1.running_mean.normal_()
    x = torch.randn(2, in_channels, 6, 6)
    active = block.bn1(x).relu()
    changed = stride == 2 or in_channels == 3
    kept = F.conv2d(active, block.shortcut[0].weight, stride=stride) if changed else x
    hidden = F.conv2d(active, block.conv1.weight, stride=stride, padding=1)
    out = F.conv2d(block.bn2(hidden).relu(), block.conv2.weight, padding=1)
    torch.testing.assert_close(block(x), out + kept)


def test_wide_block_drops_three_tenths_between_its_convolutions():
    torch.manual_seed(0)
    block = WideBlock(3, 16, 1)
    around, second = [], []
    block.dropout.register_forward_hook(lambda _, args, output: around.append((args[0], output)))
    block.conv2.register_forward_pre_hook(lambda _, args: second.append(args[0]))
    x = torch.randn(4, 3, 16, 16)
    block(x)
    block.eval()(x)
    (before, after), (same, untouched) = around
    dropped = (after == 0)[before != 0].float().mean()
    assert float(dropped) == pytest.approx(0.3, abs=0.03)
    assert torch.equal(same, untouched)
    assert torch.equal(second[0], after)
