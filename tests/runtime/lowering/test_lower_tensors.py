"""Reshapes without a step, with a kernel and on PyTorch; and fallbacks."""

import torch
from tests.runtime.ir.examples import NEGATE, array
from tests.runtime.lowering.lowered import lowered
from tests.runtime.networks import noise

from gpmt.runtime.ir.operators import GlobalMean, Linear, Pool, Reshape, fallback
from gpmt.runtime.lowering.steps import TorchStep

LINEAR = Linear("x", "y", array(3, 8), array(3))


def step_labels(graph):
    return [step.label for step in graph.steps]


def test_vectors_of_as_many_features_stay_in_their_buffer():
    graph = lowered([LINEAR, Reshape("y", "z")], {"x": (2, 5, 8), "y": (2, 5, 3), "z": (10, 3)})
    assert step_labels(graph) == ["import", "linear", "export"]
    assert graph.steps[-1].buffers == {"input": "y:vectors"}
    assert graph.tensor_shapes == {"z": (10, 3)}


def test_the_pixels_of_means_are_the_vectors_of_their_channels():
    operators = [GlobalMean("x", "y"), Reshape("y", "z")]
    graph = lowered(operators, {"x": (2, 4, 5, 6), "y": (2, 4, 1, 1), "z": (2, 4)})
    assert step_labels(graph) == ["import", "mean", "export"]


def test_images_are_flattened_by_a_kernel():
    operators = [Pool("x", "y", "max", (2, 2), (1, 1)), Reshape("y", "z")]
    graph = lowered(operators, {"x": (2, 4, 5, 6), "y": (2, 4, 4, 5), "z": (2, 80)})
    assert step_labels(graph) == ["import", "max pool", "flatten", "export"]
    assert graph.steps[2].buffers == {"input": "y:images", "output": "z:vectors"}


def test_other_reshapes_are_views_of_pytorch():
    operators = [LINEAR, Reshape("y", "z")]
    graph = lowered(operators, {"x": (2, 5, 8), "y": (2, 5, 3), "z": (2, 15)})
    assert step_labels(graph) == ["import", "linear", "export", "reshape"]
    step = graph.steps[-1]
    assert isinstance(step, TorchStep)
    assert step.returns_view
    assert (step.inputs, step.output_names, step.reason) == (("y",), ("z",), "")
    tensor = noise(2, 5, 3)
    (result,) = step.run(tensor)
    assert torch.equal(result, tensor.view(2, 15))


def test_images_of_other_samples_are_not_flattened():
    operators = [Pool("x", "y", "max", (2, 2), (1, 1)), Reshape("y", "z")]
    graph = lowered(operators, {"x": (2, 4, 5, 6), "y": (2, 4, 4, 5), "z": (8, 20)})
    assert step_labels(graph) == ["import", "max pool", "export", "reshape"]


def test_a_tensor_is_reshaped_without_a_kernel():
    graph = lowered([Reshape("x", "y")], {"x": (2, 6), "y": (3, 4)})
    assert step_labels(graph) == ["reshape"]
    assert not graph.planes


def test_fallbacks_are_steps_on_pytorch():
    graph = lowered([fallback([NEGATE], ["x"], ["y"], "there is no kernel for it")], {"x": (3,), "y": (3,)})
    (step,) = graph.steps
    assert isinstance(step, TorchStep)
    assert (step.label, step.reason) == ("neg", "there is no kernel for it")
    assert (step.inputs, step.output_names) == (("x",), ("y",))
    assert not step.returns_view
    assert torch.equal(step.run(torch.ones(3))[0], -torch.ones(3))
