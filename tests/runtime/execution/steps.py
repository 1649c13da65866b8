"""Steps for tests of memory: only the buffers that they use matter."""

from gpmt.runtime.lowering.steps import BufferAddress, InputTensor, NativeStep


def step(*buffers):
    """Return a step on buffers."""
    arguments = {f"argument {i}": BufferAddress(buffer) for i, buffer in enumerate(buffers)}
    return NativeStep("step", {"tensor": InputTensor("x"), **arguments}, lambda _: [])
