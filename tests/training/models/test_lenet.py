import torch
import torch.nn.functional as F

from gpmt.training.models import build, construct


def test_the_parameter_count_is_the_published_one():
    network = construct("lenet5-caffe", num_classes=10, input_shape=(1, 28, 28))
    assert sum(parameter.numel() for parameter in network.parameters()) == 431_080


def test_lenet_is_two_convolutions_then_two_linear_layers():
    network = build("lenet5-caffe", num_classes=10, input_shape=(1, 28, 28))
    x = torch.randn(3, 1, 28, 28)
    weights = network.state_dict()
    h = F.max_pool2d(F.conv2d(x, weights["conv1.weight"], weights["conv1.bias"]), 2)
    h = F.max_pool2d(F.conv2d(h, weights["conv2.weight"], weights["conv2.bias"]), 2).flatten(1)
    h = F.linear(h, weights["fc1.weight"], weights["fc1.bias"]).relu()
    torch.testing.assert_close(network(x), F.linear(h, weights["fc2.weight"], weights["fc2.bias"]))
