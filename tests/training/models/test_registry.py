import pytest
import torch

from gpmt.core.scope import find_scope
from gpmt.errors import RecipeError
from gpmt.training.models import FACTORIES, build, check_name, construct

IMAGES = sorted(set(FACTORIES) - {"fastgrnn", "cifar-resnet34", "cifar-resnet101", "cifar-resnet152"})


@pytest.mark.parametrize(
    ("name", "input_shape", "parameters"),
    [
        ("resnet20", (3, 32, 32), 269_722),
        ("resnet32", (3, 32, 32), 464_154),
        ("resnet56", (3, 32, 32), 853_018),
        ("lenet5-caffe", (1, 28, 28), 431_080),
        ("cifar-mobilenetv2", (3, 32, 32), 2_296_922),
        ("cifar-resnet18", (3, 32, 32), 11_173_962),
        ("cifar-resnet50", (3, 32, 32), 23_520_842),
        ("wrn-28-10", (3, 32, 32), 36_479_194),  # Zagoruyko & Komodakis 2016, table 5: 36.5 M
        ("wrn-16-8", (3, 32, 32), 10_961_370),  # 11.0 M
        ("wrn-22-8", (3, 32, 32), 17_158_106),  # table 4: 17.2 M
        ("wrn-40-4", (3, 32, 32), 8_949_210),  # 8.9 M
        ("wrn-16-10", (3, 32, 32), 17_116_634),  # table 4: 17.1 M
    ],
)
def test_parameter_counts_are_the_published_ones(name, input_shape, parameters):
    network = construct(name, num_classes=10, input_shape=input_shape)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("name", [*IMAGES, "wrn-10-1", "wrn-16-2"])
@pytest.mark.parametrize("input_shape", [(1, 28, 28), (3, 32, 24)])
def test_every_network_takes_other_images_and_classes(name, input_shape):
    network = build(name, num_classes=7, input_shape=input_shape)
    assert all(module.training for module in network.modules())
    assert network(torch.randn(2, *input_shape)).shape == (2, 7)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "layers"), [(34, 34), (101, 101), (152, 152)])
def test_deeper_residual_networks_have_the_layers_of_their_name(depth, layers):
    network = construct(f"cifar-resnet{depth}", num_classes=10, input_shape=(3, 32, 32))
    assert len([name for name in find_scope(network).tensors if "shortcut" not in name]) == layers


def test_names_are_those_of_the_checkpoints_in_circulation():
    names = list(build("resnet20", num_classes=10, input_shape=(3, 32, 32)).state_dict())
    assert names[:2] == ["conv1.weight", "bn1.weight"]
    assert "layer1.0.conv1.weight" in names
    assert "layer3.2.bn2.running_var" in names
    assert names[-2:] == ["linear.weight", "linear.bias"]
    assert not [name for name in names if "shortcut" in name or "downsample" in name]

    names = list(construct("cifar-resnet18", num_classes=10, input_shape=(3, 32, 32)).state_dict())
    assert {"conv1.weight", "bn1.weight", "layer4.1.conv2.weight", "linear.weight"} <= set(names)
    shortcuts = [name for name in names if "shortcut" in name and name.endswith("weight")]
    assert shortcuts == [f"layer{stage}.0.shortcut.{part}.weight" for stage in (2, 3, 4) for part in (0, 1)]

    names = list(construct("wrn-16-2", num_classes=10, input_shape=(3, 32, 32)).state_dict())
    shortcuts = [f"layer{stage}.0.shortcut.0.weight" for stage in (1, 2, 3)]
    assert [name for name in names if "shortcut" in name] == shortcuts
    assert {"conv1.weight", "bn1.weight", "layer3.1.conv2.weight", "linear.bias"} <= set(names)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet22", r"^model is resnet22, which is not known; did you mean resnet"),
        ("wrn-28", r"^model is wrn-28, which is not known; did you mean wrn-28-8\?$"),
        ("zzz", r"^model is zzz, which is not known; known are cifar-mobilenetv2, .* torchvision:NAME, wrn-"),
        ("wrn-27-8", r"^model is wrn-27-8, .*: depth is 27, but must be 6n \+ 4, such as 16, 22 or 28$"),
        ("wrn-4-8", r"depth is 4, but must be 6n \+ 4"),
        ("wrn-16-0", r"width is 0, but must be at least 1"),
    ],
)
def test_unknown_names_are_answered_with_close_ones(name, sentence):
    with pytest.raises(RecipeError, match=sentence):
        check_name(name)
    with pytest.raises(RecipeError, match=sentence):
        build(name, num_classes=10, input_shape=(3, 32, 32))


@pytest.mark.parametrize(
    ("name", "input_shape", "sentence"),
    [
        ("lenet5-caffe", (1, 8, 8), "images are 8×8, but LeNet-5-Caffe needs at least 16×16"),
        ("resnet20", (128, 9), r"it takes images \(channels, height, width\), not inputs of shape 128x9"),
        ("wrn-10-1", (128,), "it takes images .*, not inputs of shape 128"),
        ("fastgrnn", (3, 32, 32), r"it takes series \(steps, features\), not inputs of shape 3x32x32"),
    ],
)
def test_a_network_that_cannot_take_the_inputs(name, input_shape, sentence):
    with pytest.raises(RecipeError, match=f"^model is {name}, which does not fit the data: {sentence}$"):
        build(name, num_classes=10, input_shape=input_shape)


def test_trying_a_network_changes_nothing():
    torch.manual_seed(0)
    tried = build("wrn-10-1", num_classes=3, input_shape=(3, 8, 8))
    after = torch.rand(1)
    torch.manual_seed(0)
    untried = construct("wrn-10-1", num_classes=3, input_shape=(3, 8, 8))
    assert torch.equal(after, torch.rand(1))
    torch.testing.assert_close(tried.state_dict(), untried.state_dict(), rtol=0, atol=0)
