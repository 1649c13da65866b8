"""What steps say of themselves: the arguments of their kernels, and the values and buffers that they use."""

import pytest
from tests.runtime.ir.examples import EXAMPLES
from tests.runtime.lowering.lowered import lowered

from gpmt.runtime.ir.values import Value
from gpmt.runtime.lowering.steps import (
    NO_WEIGHTS,
    BufferAddress,
    InputStride,
    InputTensor,
    NativeStep,
    Number,
    OutputTensor,
    TorchStep,
    buffers_of,
)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_argument_of_a_kernel_is_in_the_step_or_an_array(kind):
    operator, shapes = EXAMPLES[kind]
    graph = lowered([operator], shapes)
    for step in graph.steps:
        if not isinstance(step, NativeStep):
            continue
        assert {*step.buffers.values()} <= graph.planes.keys()
        for candidate in step.candidates(graph.planes):
            arrays = candidate.arrays()
            code = {"code": 0} if candidate.code else {}
            candidate.spec.in_order({**step.arguments, **arrays, **code})
            assert not step.arguments.keys() & arrays.keys(), step.label


def test_buffers_are_among_the_arguments():
    arguments = {
        "left": BufferAddress("x:images"),
        "right": BufferAddress("x:images", 3),
        "tensor": InputTensor("x", contiguous=True),
        "stride": InputStride("x", 1),
        "result": OutputTensor("y"),
        "row": Number(4),
    }
    assert buffers_of(arguments) == {"left": "x:images", "right": "x:images"}
    step = NativeStep("add", arguments, lambda planes: [])
    assert step.buffers == buffers_of(arguments)
    assert step.macs is NO_WEIGHTS


def test_a_step_on_pytorch_names_its_outputs():
    step = TorchStep("split", ("x",), (Value("a", (2,)), Value("b", (3,))), lambda x: x.split([2, 3]))
    assert step.output_names == ("a", "b")
    assert (step.reason, step.returns_view) == ("", False)


@pytest.mark.parametrize("kind", ["Conv", "Linear"])
def test_steps_with_weights_count_their_multiply_adds(kind):
    ((operator, shapes),) = ((op, shapes) for type, (op, shapes) in EXAMPLES.items() if type.__name__ == kind)
    (macs,) = (
        step.macs for step in lowered([operator], shapes).steps if getattr(step, "macs", NO_WEIGHTS).dense
    )
    batch, *_, width = shapes["y"]
    assert macs.name == operator.name
    dense = {"Conv": 6 * 2 * 3 * 2 * batch * 4 * width, "Linear": 3 * 8 * batch * 4 * 6}[kind]
    assert macs.dense == macs.kept == dense
