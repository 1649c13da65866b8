"""Convolutions, batch-norms and paddings."""

import pytest
import torch
from tests.runtime.frontend.translated import IMAGE, check_fallback, check_image, random_layer
from tests.runtime.networks import Lambda, check, noise, scramble
from torch import nn
from torch.nn import functional as F

from gpmt.runtime.frontend.capture import capture


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
    check(random_layer(make), IMAGE, optimized={"Conv": 1})


@pytest.mark.parametrize(
    ("make", "shape", "reason"),
    [
        (lambda: nn.ConvTranspose2d(4, 6, 3), (2, 4, 7, 6), "no kernel"),
        (lambda: nn.Conv1d(4, 6, 3), (2, 4, 7), "no kernel"),
        (lambda: nn.Conv3d(4, 6, 3), (2, 4, 5, 5, 5), "no kernel"),
        (lambda: nn.Conv2d(4, 6, 3), (4, 7, 7), "its input has 3 dimensions, not 4"),
        (lambda: nn.BatchNorm2d(4, track_running_stats=False), (2, 4, 7, 6), "in training mode"),
        (lambda: nn.BatchNorm1d(4), (2, 4, 7), "its input has 3 dimensions, not 2 or 4"),
        (
            lambda: Lambda(lambda s, x: F.pad(x, (1, 1, 1, 1), value=2.0)),
            (2, 4, 7, 6),
            "cannot pad by itself",
        ),
        (lambda: Lambda(lambda s, x: F.pad(x, (1, 1, 1, 1), mode="reflect")), (2, 4, 7, 6), "not zeros"),
    ],
)
def test_fallbacks(make, shape, reason):
    check_fallback(make, shape, reason)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: F.pad(x, (0, 0, 0, 0, 2, 1)), {"Conv": 1}),
    ],
)
def test_images(function, expected):
    check_image(function, expected)


def test_batch_norm_of_a_batch_leaves_the_statistics():
    norm = nn.BatchNorm2d(4)
    network = Lambda(
        lambda s, x: F.batch_norm(x, s.norm.running_mean, s.norm.running_var, training=True), norm=norm
    )
    (operator,) = capture(network, IMAGE).graph.operators
    for _ in range(2):
        (result,) = operator.calls(IMAGE)
        assert torch.allclose(result, F.batch_norm(IMAGE, None, None, training=True))
    assert not norm.running_mean.any()


@pytest.mark.parametrize("shape", [(3, 5), (6, 5, 1, 1)])
def test_vectors_through_batch_norm(shape):
    norm = nn.BatchNorm2d(5) if len(shape) == 4 else nn.BatchNorm1d(5)
    check(scramble(nn.Sequential(norm, nn.Flatten(), nn.ReLU())), noise(*shape))
