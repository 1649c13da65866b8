"""Steps as rules add them: their buffers by argument, and values with names of their own."""

from tests.runtime.networks import noise

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.values import Value
from gpmt.runtime.kernels.upsample import UpsampleKernel
from gpmt.runtime.lowering.step_builder import StepBuilder
from gpmt.runtime.lowering.steps import BufferAddress, LayerMacs, OutputTensor


def builder():
    return StepBuilder(Graph({"x": Value("x", (2, 3))}, [], ["x"], ["x"]))


def test_new_values_have_names_that_the_graph_does_not_have():
    steps = builder()
    assert steps.new_value("y", (4,)) == "y"
    assert steps.new_value("x", (5,)) == "x'"
    assert steps.new_value("x", (6,)) == "x''"
    assert [steps.shape(name) for name in ("x", "y", "x'", "x''")] == [(2, 3), (4,), (5,), (6,)]


def test_kernels_are_made_for_the_planes_of_the_steps_buffers():
    steps = builder()
    steps.solver.add("small", 1, 2, 3, 4)
    steps.solver.add("large", 1, 2, 6, 8)
    arguments = {
        "input": BufferAddress("small"),
        "output": BufferAddress("large"),
        "tensor": OutputTensor("x"),
    }
    steps.add_kernel(
        "upsample", arguments,
        lambda planes: UpsampleKernel(8, planes["input"], planes["output"], (2, 2)),
        lambda spec, planes: {"ones": noise(len(planes), spec.lanes).numpy()},
        LayerMacs("weight", 20, 10),
    )  # fmt: skip
    lowered = steps.finish()
    (step,) = lowered.steps
    assert step.buffers == {"input": "small", "output": "large"}
    assert (step.label, step.macs.dense, step.macs.kept) == ("upsample", 20, 10)
    (candidate,) = step.candidates(lowered.planes)
    assert (candidate.spec.input, candidate.spec.output) == (lowered.planes["small"], lowered.planes["large"])
    assert candidate.arrays()["ones"].shape == (2, 8)


def test_a_step_on_pytorch_knows_its_outputs():
    steps = builder()
    steps.new_value("y", (3, 2))
    steps.add_torch("transpose", ("x",), ("y",), lambda x: (x.t(),), returns_view=True)
    (step,) = steps.finish().steps
    assert step.output_names == ("y",)
    assert step.outputs[0].shape == (3, 2)
    assert step.returns_view
