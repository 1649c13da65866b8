"""Affine maps of vectors become affine maps of images of one pixel, with the same result."""

import torch
from tests.runtime.ir.examples import EXAMPLES, array, graph_of
from tests.runtime.networks import kinds, noise
from tests.runtime.reference import run

from gpmt.runtime.ir.activation import RELU
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operators import Affine, Linear
from gpmt.runtime.ir.validation import check_graph
from gpmt.runtime.ir.values import Value
from gpmt.runtime.passes.affine_as_image import affine_as_image


def test_an_affine_map_of_vectors():
    scale, shift = array(4), array(4)[::-1].copy()
    graph = graph_of(Affine("x", "y", scale, shift, RELU), {"x": (3, 4), "y": (3, 4)})
    changed = affine_as_image(graph)
    check_graph(changed)
    assert [type(operator).__name__ for operator in changed.operators] == ["Reshape", "Affine", "Reshape"]
    images = noise(3, 4)
    (result,) = run(changed, [images])
    torch.testing.assert_close(result, (images * torch.from_numpy(scale) + torch.from_numpy(shift)).relu())
    assert kinds(graph) == {"Affine": 1}
    assert graph.values.keys() == {"x", "y"}


def test_affine_maps_between_other_operators():
    linear = Linear("x", "a", array(4, 5), array(4))
    maps = [Affine("a", "b", array(4), array(4)), Affine("b", "c", array(4), array(4))]
    values = {name: Value(name, (3, 5 if name == "x" else 4)) for name in "xabc"}
    graph = Graph(values, [linear, *maps], ["x"], ["c", "b"])
    changed = affine_as_image(graph)
    check_graph(changed)
    assert kinds(changed) == {"Linear": 1, "Affine": 2, "Reshape": 4}
    (images,) = inputs = [noise(3, 5)]
    vectors = images @ torch.from_numpy(linear.weight).t() + torch.from_numpy(linear.bias)
    first, second = (
        lambda x, op=op: x * torch.from_numpy(op.scale) + torch.from_numpy(op.shift) for op in maps
    )
    torch.testing.assert_close(run(changed, inputs), [second(first(vectors)), first(vectors)])


def test_an_affine_map_of_images_stays():
    graph = graph_of(*EXAMPLES[Affine])
    changed = affine_as_image(graph)
    assert changed.operators == graph.operators
    assert changed.values == graph.values
