"""Which networks treat samples one by one, and their graphs for other batches."""

import pytest
import torch
from tests.runtime.networks import Lambda, noise, scramble
from tests.runtime.reference import run
from torch import nn

import gpmt
from gpmt.runtime.dynamic_batch import with_dynamic_batch
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.batch import batch_of, rebatched
from gpmt.runtime.passes.pipeline import optimize


def graph_of(network, *inputs):
    return with_dynamic_batch(optimize(capture(network, inputs).graph), network, inputs)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)),
            (5, 3, 6, 6),
        ),
        (nn.Linear(4, 4), (4, 4)),
        (nn.Linear(4, 2), (3, 5, 4)),
        (Lambda(lambda s, x: (x, x.mean((2, 3)))), (2, 3, 4, 4)),
    ],
)
def test_samples_one_by_one(network, shape):
    graph = graph_of(scramble(network), noise(*shape))
    assert batch_of(graph) == shape[0]
    for batch in (1, 7):
        other = rebatched(graph, batch)
        images = noise(batch, *shape[1:])
        expected = network(images)
        for result, right in zip(
            run(other, [images]), [expected] if torch.is_tensor(expected) else expected, strict=True
        ):
            torch.testing.assert_close(result, right)
    assert batch_of(graph) == shape[0], "the graph itself has changed"


@pytest.mark.parametrize(
    ("network", "shapes"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus()), [(2, 3, 6, 6)]),
        (Lambda(lambda s, x: s.conv(x).sum(0), conv=nn.Conv2d(3, 4, 3)), [(2, 3, 6, 6)]),
        (Lambda(lambda s, x: s.linear(x.reshape(4, 3)), linear=nn.Linear(3, 2)), [(2, 6)]),
        (Lambda(lambda s, x, y: (x * 2, y * 2)), [(2, 3, 6, 6), (1, 3, 6, 6)]),
        (Lambda(lambda s, x: x * s.factor, factor=noise(6, 6)), [(2, 3, 6, 6)]),
        (Lambda(lambda s, x: (x, s.table), table=noise(2, 3)), [(2, 3, 6, 6)]),
        # What Python code made of the size of the batch.
        (Lambda(lambda s, x: s.conv(x) / x.shape[0], conv=nn.Conv2d(3, 4, 3)), [(2, 3, 6, 6)]),
        (Lambda(lambda s, x: s.conv(x[:8]), conv=nn.Conv2d(3, 4, 3)), [(8, 3, 6, 6)]),
        (Lambda(lambda s, x: s.conv(x.transpose(0, 1)), conv=nn.Conv2d(1, 4, 3)), [(1, 1, 6, 6)]),
        (Lambda(lambda s, x: s.conv(x[:8]), conv=nn.Conv2d(3, 4, 3)), [(2, 3, 6, 6)]),
        (
            Lambda(lambda s, x: s.conv(x) if len(x) < 64 else -s.conv(x), conv=nn.Conv2d(3, 4, 3)),
            [(1, 3, 6, 6)],
        ),
        # With a batch of one these look like networks that treat samples one by one.
        (Lambda(lambda s, x: x.reshape(1, -1)), [(1, 3, 6, 6)]),
        (Lambda(lambda s, x: s.linear(x.reshape(1, 108)), linear=nn.Linear(108, 2)), [(1, 3, 6, 6)]),
    ],
)
def test_the_batch_is_fixed(network, shapes):
    assert batch_of(graph_of(network.eval(), *(noise(*shape) for shape in shapes))) is None


def test_a_batch_that_is_fixed_is_said_to_be():
    fast = gpmt.compile(Lambda(lambda s, x: x.reshape(1, -1)), noise(1, 3, 6, 6), threads=1, tune=False)
    with pytest.raises(
        gpmt.GpmtError, match=r"has the shape \[2, 3, 6, 6\], but the program was compiled for"
    ):
        fast(noise(2, 3, 6, 6))


def test_finding_it_out_takes_no_memory():
    """The second example, of 4,000,061 samples here, would not fit."""
    network, images = nn.Conv2d(3, 4, 1), torch.zeros(1).expand(1_000_000, 3, 300, 300)
    assert batch_of(graph_of(network, images)) == 1_000_000
