"""What becomes of single ATen operators: native where it is exactly the same, on PyTorch with a reason where not."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.networks import Lambda, check, kinds, noise, scramble
from torch import nn
from torch.nn import functional as F

from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.operators import Fallback

IMAGE = noise(2, 4, 7, 6)


def layer(module, *, seed=0):
    torch.manual_seed(seed)
    return scramble(module())


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Conv2d(4, 6, 3, padding="same"),
        lambda: nn.Conv2d(4, 6, (4, 2), padding="same", dilation=(1, 2)),
        lambda: nn.Conv2d(4, 6, (2, 3), padding="valid", bias=False),
        lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 0), dilation=(1, 3), groups=2),
        lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4),
        lambda: nn.Conv2d(4, 4, 5, padding=4).to(memory_format=torch.channels_last),
        lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(4, 6, 3, padding=(1, 0))),
        lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.ZeroPad2d(1), nn.Conv2d(4, 6, 3, stride=2)),
    ],
)
def test_convolutions(make):
    check(layer(make), IMAGE, fused={"Conv": 1})


@pytest.mark.parametrize(
    ("make", "shape", "reason"),
    [
        (lambda: nn.ConvTranspose2d(4, 6, 3), (2, 4, 7, 6), "no kernel"),
        (lambda: nn.Conv1d(4, 6, 3), (2, 4, 7), "no kernel"),
        (lambda: nn.Conv3d(4, 6, 3), (2, 4, 5, 5, 5), "no kernel"),
        (lambda: nn.Conv2d(4, 6, 3), (4, 7, 7), "its input has 3 dimensions, not 4"),
        (lambda: nn.BatchNorm2d(4, track_running_stats=False), (2, 4, 7, 6), "in training mode"),
        (lambda: nn.BatchNorm1d(4), (2, 4, 7), "its input has 3 dimensions, not 2 or 4"),
        (lambda: nn.MaxPool2d(2, dilation=2), (2, 4, 7, 6), "dilated"),
        (lambda: nn.MaxPool2d(2, return_indices=True), (2, 4, 7, 6), "further results are read"),
        (lambda: nn.AvgPool2d(3, divisor_override=4), (2, 4, 7, 6), "its divisor is given"),
        (lambda: nn.AvgPool2d(3, 2, padding=1, ceil_mode=True), (2, 4, 6, 6), "rounded up"),
        (lambda: nn.AdaptiveAvgPool2d(3), (2, 4, 7, 6), "several sizes"),
        (lambda: Lambda(lambda s, x: x + x[:, :, :1]), (2, 4, 7, 6), "different shapes"),
        (lambda: Lambda(lambda s, x: torch.add(x, x.relu(), alpha=2)), (2, 4, 7, 6), "one side is scaled"),
        (lambda: Lambda(lambda s, x: torch.cat([x, x], 2)), (2, 4, 7, 6), "not along the channels"),
        (lambda: Lambda(lambda s, x: x.mean((1, 2))), (2, 4, 7, 6), "not over height and width"),
        (lambda: Lambda(lambda s, x: x.transpose(1, 2)), (2, 4, 7, 6), "moves numbers"),
        (
            lambda: Lambda(lambda s, x: F.pad(x, (1, 1, 1, 1), value=2.0)),
            (2, 4, 7, 6),
            "cannot pad by itself",
        ),
        (lambda: Lambda(lambda s, x: F.pad(x, (1, 1, 1, 1), mode="reflect")), (2, 4, 7, 6), "not zeros"),
        (lambda: Lambda(lambda s, x: x.to(torch.int32)), (2, 4, 7, 6), "changes shape or type"),
        (lambda: Lambda(lambda s, x: x.clamp(x - 1, x + 1)), (2, 4, 7, 6), "no kernel for its bounds"),
        (lambda: Lambda(lambda s, x: F.linear(x, x[:2])), (3, 5), "its weight is computed"),
        (
            lambda: Lambda(lambda s, x: torch.addmm(s.b, x, s.w, beta=2), b=noise(4), w=noise(5, 4)),
            (3, 5),
            "scaled",
        ),
        (lambda: nn.Linear(5, 2), (5,), "not a batch"),
    ],
)
def test_left_on_pytorch(make, shape, reason):
    network = layer(make)
    check(network, noise(*shape))
    left = [o for o in capture(network, noise(*shape)).graph.operators if isinstance(o, Fallback)]
    assert any(reason in operator.reason for operator in left), [operator.reason for operator in left]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["max", "mean"]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.booleans(),
    st.booleans(),
)
def test_pools(kind, size, kernel, stride, padding, ceil, count):
    """Whatever its windows: exactly the same, native or not."""
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    if any(s + 2 * p < k for s, p, k in zip(size, padding, kernel, strict=True)):
        return
    if kind == "max":
        pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
    else:
        pool = nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=count)
    graph = check(pool, noise(2, 3, *size))
    whole = all((s + 2 * p - k) % d == 0 for s, p, k, d in zip(size, padding, kernel, stride, strict=True))
    if kind == "mean" and kernel == size and not any(padding):
        assert kinds(graph) == {"GlobalMean": 1}
    elif kind == "max" or whole or not ceil or not count:
        assert kinds(graph) == {"Pool": 1}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2), {"Pool": 1}),
        (lambda s, x: F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2), {"Pool": 1}),
        (lambda s, x: F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2, 1), {"Pool": 1}),
        (lambda s, x: F.avg_pool2d(x, 3, 1, 1, divisor_override=9), {"Pool": 1}),
        (lambda s, x: F.adaptive_avg_pool2d(x, 1), {"GlobalMean": 1}),
        (lambda s, x: F.adaptive_avg_pool2d(x, 1).flatten(1), {"GlobalMean": 1}),
        (lambda s, x: x.mean((-1, 2)), {"GlobalMean": 1}),
        (lambda s, x: x.mean((2, 3), keepdim=True), {"GlobalMean": 1}),
        (lambda s, x: F.adaptive_avg_pool2d(x, (7, 6)) * 2, {"Affine": 1}),
        (lambda s, x: F.adaptive_avg_pool2d(x, (7, 2)), {"Pool": 1}),
        (lambda s, x: F.adaptive_max_pool2d(x, (1, 3)), {"Pool": 1}),
        (lambda s, x: x[:, :, ::2, ::3], {"Pool": 1}),
        (lambda s, x: F.pad(x, (0, 0, 0, 0, 2, 1)), {"Conv": 1}),
        (lambda s, x: x[:, :, 1:], {"slice": 1}),
        (lambda s, x: torch.cat([x, x.relu(), x], -3), {"Affine": 1, "Concat": 1}),
        (lambda s, x: torch.cat([x], 0).relu(), {"Affine": 1}),
        (lambda s, x: x.flatten(1), {"Reshape": 1}),
        (lambda s, x: x.view(2, 2, 2, -1).reshape(8, -1), {"Reshape": 1}),
        (lambda s, x: x[:, :1, :1].permute(1, 2, 0, 3).squeeze(), {"Slice": 1, "slice, reshape": 1}),
        (lambda s, x: x.mean((2, 3), keepdim=True).permute(2, 0, 3, 1), {"GlobalMean": 1, "Reshape": 1}),
        (lambda s, x: x.unsqueeze(0).squeeze(0).contiguous().clone().detach().float() + 1, {"Affine": 1}),
        (lambda s, x: F.dropout(x, training=False).relu(), {"Affine": 1}),
        (lambda s, x: (1 - (x - s.m) / s.d) * s.m - 3, {"Affine": 1}),
        (lambda s, x: x + x, {"Add": 1}),
        (lambda s, x: F.hardsigmoid(x), {"Affine": 1}),
        (lambda s, x: x * x, {"Multiply": 1}),
        (lambda s, x: x * 1e-35 / 1e-40, {"Affine": 1, "div": 1}),
        (lambda s, x: x[:0], {"slice": 1}),
        (lambda s, x: x.chunk(2, 1)[1] * 2, {"Slice": 1, "Affine": 1}),
        (lambda s, x: torch.split(x, [1, 3], -3)[0] + x[:, 2:3], {"Slice": 2, "Add": 1}),
        (lambda s, x: x.tensor_split(3, 1)[2], {"Slice": 1}),
        (lambda s, x: x[:, -2:-1], {"Slice": 1}),
        (lambda s, x: x.chunk(2, 2)[1] * 2, {"chunk": 1, "Affine": 1}),
        (lambda s, x: x.sin()[:, 1:].cos(), {"sin, slice, cos": 1}),
        (lambda s, x: F.interpolate(x, scale_factor=2), {"Upsample": 1}),
        (lambda s, x: F.interpolate(x, scale_factor=(1, 4), mode="nearest-exact"), {"Upsample": 1}),
        (lambda s, x: F.interpolate(x, size=(14, 12), mode="nearest"), {"Upsample": 1}),
        (lambda s, x: F.interpolate(x, scale_factor=2.1), {"upsample_nearest2d": 1}),
        (lambda s, x: F.interpolate(x, size=(7, 9)), {"upsample_nearest2d": 1}),
        # Rounding to whole numbers.
        (lambda s, x: (x * 10 + 12582912.0) - 12582912.0, {"Affine": 3}),
        (lambda s, x: x + 1000.0 - 1000.5, {"Affine": 1}),
        (lambda s, x: (x * (x + 1)).relu(), {"Affine": 1, "Multiply": 1}),
        (lambda s, x: x.mean((2, 3), keepdim=True) * x, {"GlobalMean": 1, "Multiply": 1}),
        (
            lambda s, x: x * x.sigmoid().mean((2, 3), keepdim=True),
            {"Affine": 1, "GlobalMean": 1, "Multiply": 1},
        ),
        (lambda s, x: x.mean((2, 3)) * 2, {"GlobalMean": 1, "mul": 1}),
        (lambda s, x: x * x[:, :, :1], {"slice, mul": 1}),
    ],
)
def test_images(function, expected):
    parts = {"m": noise(4, 1, 1), "d": noise(1, 4, 1, 1) + 3}
    check(Lambda(function, **parts), IMAGE, fused=expected)


@pytest.mark.parametrize(
    "function",
    [
        F.relu,
        F.relu6,
        F.silu,
        F.hardswish,
        F.sigmoid,
        torch.relu,
        lambda x: F.hardtanh(x, -0.5, 0.25),
        lambda x: x.clamp(max=0.5),
        lambda x: x.clamp(min=-0.5),
        lambda x: torch.clip(x, -1, 1),
        lambda x: x.clamp_min(0.1).clone().clamp_max_(0.5),
        lambda x: x.clone().relu_(),
        lambda x: x * x.sigmoid(),
        lambda x: x.sigmoid() * x,
        lambda x: x * F.hardsigmoid(x),
        lambda x: x * F.relu6(x + 3) / 6,
        lambda x: x * (F.relu6(x + 3) / 6),
        lambda x: F.relu6(x + 3) * x * (1 / 6),
    ],
)
def test_activations_of_images(function):
    """On their own, and after a convolution as part of it."""
    x = noise(2, 4, 5, 5) * 4
    graph = check(Lambda(lambda s, x: function(x)), x)
    assert kinds(graph).keys() == {"Affine"}
    network = Lambda(lambda s, x: function(s.conv(x)), conv=nn.Conv2d(4, 3, 3))
    graph = check(network, x)
    assert sum(type(o).__name__ == "Conv" and o.activation.kind != "none" for o in graph.operators) == 1
    assert kinds(graph).keys() <= {"Conv", "Affine"}


@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: s.linear(x),
        lambda s, x: F.linear(x, s.w),
        lambda s, x: x @ s.w.t(),
        lambda s, x: torch.matmul(x, s.t) + 0 * x.sum(),
        lambda s, x: torch.addmm(s.b, x.reshape(-1, 5), s.t),
        lambda s, x: torch.addmm(s.b[:1], x.reshape(-1, 5), s.t),
        lambda s, x: torch.mm(x.reshape(-1, 5), s.t),
        lambda s, x: F.relu(s.linear(x)),
        lambda s, x: F.silu(s.linear(x), inplace=True),
        lambda s, x: F.linear(x, s.w * 2 + s.w.abs()),
    ],
)
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (2, 3, 4, 5)])
def test_linear(function, shape):
    torch.manual_seed(0)
    parts = {"linear": nn.Linear(5, 4), "w": noise(4, 5), "t": noise(5, 4), "b": noise(4)}
    graph = check(Lambda(function, **parts), noise(*shape))
    assert kinds(graph)["Linear"] == 1


def test_weights_are_not_copied():
    conv, linear = nn.Conv2d(4, 3, 3), nn.Linear(3, 2)
    network = Lambda(lambda s, x: s.linear(s.conv(x).mean((2, 3))), conv=conv, linear=linear)
    operators = capture(network, IMAGE).graph.operators
    assert operators[0].weight.ctypes.data == conv.weight.data_ptr()
    assert operators[-1].weight.ctypes.data == linear.weight.data_ptr()
    assert (operators[0].name, operators[-1].name) == ("conv.weight", "linear.weight")


def test_batch_norm_of_a_batch_leaves_the_statistics():
    norm = nn.BatchNorm2d(4)
    network = Lambda(
        lambda s, x: F.batch_norm(x, s.norm.running_mean, s.norm.running_var, training=True), norm=norm
    )
    whole = capture(network, IMAGE)
    (operator,) = whole.graph.operators
    for _ in range(2):
        (result,) = operator.calls(IMAGE)
        assert torch.allclose(result, F.batch_norm(IMAGE, None, None, training=True))
    assert not norm.running_mean.any()


@pytest.mark.parametrize("shape", [(3, 5), (6, 5, 1, 1)])
def test_vectors_through_batch_norm(shape):
    norm = nn.BatchNorm2d(5) if len(shape) == 4 else nn.BatchNorm1d(5)
    check(scramble(nn.Sequential(norm, nn.Flatten(), nn.ReLU())), noise(*shape))


def test_random_numbers_are_drawn_at_every_call():
    (operator,) = capture(Lambda(lambda s, x: torch.rand(3)), IMAGE).graph.operators
    assert isinstance(operator, Fallback)
    assert not torch.equal(operator.calls()[0], operator.calls()[0])


def test_pools_of_very_wide_images_stay_on_pytorch():
    graph = capture(nn.MaxPool2d(2), torch.zeros(1, 1, 2, (1 << 14) + 1)).graph
    assert [operator.reason for operator in graph.operators] == ["its input has more than 16384 columns"]
