import pytest
import torch
import torch.nn.functional as F

from gpmt.errors import RecipeError
from gpmt.training.models import FACTORIES, build
from gpmt.training.models.cifar_resnet import BasicBlock


@pytest.mark.parametrize(
    ("name", "input_shape", "parameters"),
    [
        ("resnet20", (3, 32, 32), 269_722),
        ("resnet32", (3, 32, 32), 464_154),
        ("resnet56", (3, 32, 32), 853_018),
        ("lenet5-caffe", (1, 28, 28), 431_080),
    ],
)
def test_parameter_counts_are_the_published_ones(name, input_shape, parameters):
    network = build(name, num_classes=10, input_shape=input_shape)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("name", sorted(FACTORIES))
@pytest.mark.parametrize("input_shape", [(1, 28, 28), (3, 32, 24)])
def test_every_network_takes_other_images_and_classes(name, input_shape):
    network = build(name, num_classes=7, input_shape=input_shape)
    assert network(torch.randn(2, *input_shape)).shape == (2, 7)


def test_resnet20_has_the_names_of_the_checkpoints_in_circulation():
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


def test_lenet_is_two_convolutions_then_two_linear_layers():
    network = build("lenet5-caffe", num_classes=10, input_shape=(1, 28, 28))
    x = torch.randn(3, 1, 28, 28)
    weights = network.state_dict()
    h = F.max_pool2d(F.conv2d(x, weights["conv1.weight"], weights["conv1.bias"]), 2)
    h = F.max_pool2d(F.conv2d(h, weights["conv2.weight"], weights["conv2.bias"]), 2).flatten(1)
    h = F.linear(h, weights["fc1.weight"], weights["fc1.bias"]).relu()
    torch.testing.assert_close(network(x), F.linear(h, weights["fc2.weight"], weights["fc2.bias"]))


def test_torchvision_networks_by_prefix():
    network = build("torchvision:squeezenet1_1", num_classes=4, input_shape=(3, 64, 64))
    assert network(torch.randn(1, 3, 64, 64)).shape == (1, 4)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet22", r"^model is resnet22, which is not known; did you mean resnet"),
        ("torchvision:resnet51", r"^model is torchvision:resnet51, .* did you mean torchvision:resnet"),
        ("zzz", r"^model is zzz, which is not known; known are lenet5-caffe, mobilenet-digits, resnet20"),
    ],
)
def test_unknown_names_are_answered_with_close_ones(name, sentence):
    with pytest.raises(RecipeError, match=sentence):
        build(name, num_classes=10, input_shape=(3, 32, 32))


@pytest.mark.parametrize(
    ("name", "input_shape", "sentence"),
    [
        ("lenet5-caffe", (1, 8, 8), "images are 8×8, but LeNet-5-Caffe needs at least 16×16"),
        ("torchvision:resnet18", (1, 28, 28), "take 3 channels, not 1"),
    ],
)
def test_a_network_that_cannot_take_the_images(name, input_shape, sentence):
    with pytest.raises(RecipeError, match=f"model is {name}, which does not fit the data: .*{sentence}"):
        build(name, num_classes=10, input_shape=input_shape)
