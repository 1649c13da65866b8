import pytest
import torch
from torch import nn

from gpmt.core.layers.axes import Axes, find_axes
from gpmt.core.scope.scope import find_scope


@pytest.mark.parametrize(
    ("axes", "shape", "arranged"),
    [
        (Axes(), (2, 3), (1, 2, 3, 1)),
        (Axes(1), (2, 3), (1, 3, 2, 1)),
        (Axes(), (2, 3, 4, 5), (1, 2, 3, 20)),
        (Axes(1), (2, 3, 4, 5), (1, 3, 2, 20)),
        (Axes(1, stacked=True), (7, 2, 3), (7, 2, 3, 1)),
        (Axes(2, stacked=True), (7, 2, 3), (7, 3, 2, 1)),
    ],
)
def test_weights_are_arranged_as_views(axes, shape, arranged):
    weight = torch.arange(torch.Size(shape).numel()).view(shape)
    view = axes.arrange(weight)
    assert (tuple(view.shape), axes.sizes(shape)) == (arranged, arranged)
    assert view.data_ptr() == weight.data_ptr()
    view.zero_()
    assert not weight.any()


def test_channels_last_costs_no_copy():
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    assert Axes().arrange(weight).data_ptr() == weight.data_ptr()


def test_layers_are_known_by_their_class():
    network = nn.ModuleDict(
        {
            "conv": nn.Conv2d(4, 2, 3),
            "up": nn.ConvTranspose1d(2, 3, 2),
            "rnn": nn.LSTM(2, 3),
            "attention": nn.MultiheadAttention(4, 2),
        }
    )
    axes = find_scope(network).axes
    assert axes["conv.weight"] == axes["rnn.weight_ih_l0"] == axes["attention.in_proj_weight"] == Axes()
    assert axes["up.weight"] == Axes(1)
    assert find_axes("a.weight", "Conv1D", (2, 3), None, {}) == Axes(1)


def stack(gate_up, down):
    return {"gate_up_proj": torch.zeros(gate_up), "down_proj": torch.zeros(down)}


@pytest.mark.parametrize(
    ("tensors", "output"),
    [
        (stack((2, 12, 4), (2, 4, 6)), 1),
        (stack((2, 4, 12), (2, 6, 4)), 2),
        (stack((2, 4, 4), (2, 4, 2)), 1),
        (stack((2, 4, 4), (2, 2, 4)), 2),
    ],
)
def test_stacks_of_experts_are_known_by_their_shapes(tensors, output):
    axes = find_scope(tensors).axes
    assert axes["gate_up_proj"] == axes["down_proj"] == Axes(output, stacked=True)


def test_stacks_of_experts_are_known_by_their_module():
    class Experts(nn.Module):
        is_transposed = True

    name, shape = "experts.down_proj", (2, 3, 3)
    assert find_axes(name, "GptOssExperts", shape, Experts(), {}) == Axes(2, stacked=True)
    assert find_axes("input_linear.weight", "JetMoeParallelExperts", shape, None, {}) == Axes(1, stacked=True)
    assert not find_axes(name, "experts", shape, None, {}).told
    assert not find_axes(name, "experts", shape, None, {"experts.gate_up_proj": torch.zeros(2, 5, 5)}).told


def test_weights_of_other_libraries():
    assert not find_axes("conv.weight", "CondConv2d", (4, 54), None, {}).told
    names = {name: f"experts.mlp.{name}" for name in ("w1", "v1", "w2")}
    found = {name: find_axes(full, "DbrxExpertGLU", (8, 4), None, {}) for name, full in names.items()}
    assert found == {"w1": Axes(), "v1": Axes(), "w2": Axes(1)}
    assert find_axes(names["w2"], "matrix", (8, 4), None, {}) == Axes(1)


@pytest.mark.slow
def test_experts_of_transformers():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "intermediate_size": 6, "num_local_experts": 2, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 10, "head_dim": 4}
    for name, output in (("Mixtral", 1), ("GptOss", 2)):
        config = getattr(transformers, f"{name}Config")(**sizes, **heads)
        axes = find_scope(getattr(transformers, f"{name}Model")(config)).axes
        stacks = {key: value for key, value in axes.items() if "experts" in key}
        assert len(stacks) == 2
        assert {*stacks.values()} == {Axes(output, stacked=True)}
