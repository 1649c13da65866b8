"""The emulator runs what it is given, and a kernel that reaches too far fails its test, not the tests after it."""

from dataclasses import dataclass

import numpy as np
import pytest
from tests.runtime import aarch64
from tests.runtime.kernels import emulated
from tests.runtime.kernels.guarded import Code, executed_by, guarded, run

from gpmt.runtime.codegen.emitter import F32, Emitter
from gpmt.runtime.codegen.kernel import FixedSizeKernel

pytestmark = [pytest.mark.slow, pytest.mark.aarch64, pytest.mark.native_only]


@dataclass(frozen=True)
class CopyOne(FixedSizeKernel):
    """Copies element `item` from `input` to `output`."""

    ARGS = ("input", "output")
    items = 5

    def emit(self):
        e = Emitter(4, self.ARGS)
        offset = e.mul(e.item, 4)
        e.store(e.load(e.add(e.arg("input"), offset), F32), e.add(e.arg("output"), offset))
        return e.text()


@pytest.fixture(scope="module")
def emulator(request, tmp_path_factory):
    if reason := aarch64.missing():
        pytest.skip(reason)
    emulator = emulated.Emulator(request.getfixturevalue("harness"), tmp_path_factory.mktemp("kernels"))
    with executed_by(emulator):
        yield emulator
    emulator.close()


@pytest.mark.parametrize(("reads", "writes", "item"), [(4, 5, 4), (5, 4, 4), (5, 5, -1)])
def test_one_element_too_far_fails_and_the_next_kernel_runs(emulator, reads, writes, item):
    side = "start" if item < 0 else "end"
    source, output = guarded(reads, at=side), guarded(writes, at=side)
    with pytest.raises(AssertionError, match="SIGSEGV"):
        run(CopyOne(), {"input": source, "output": output}, [item])
    source, output = guarded(5), guarded(5)
    source[:] = np.arange(5)
    run(CopyOne(), {"input": source, "output": output}, [4, 2])
    assert output.tolist() == [0, 0, 2, 0, 4]


def test_memory_without_guard_pages_is_refused(emulator):
    with pytest.raises(AssertionError, match="not guarded"):
        run(CopyOne(), {"input": np.zeros(5, np.float32), "output": guarded(5)})


def test_code_cannot_be_written(emulator):
    with pytest.raises(AssertionError, match="SIGSEGV"):
        run(CopyOne(), {"input": guarded(5), "output": Code(np.zeros(64, np.uint8))})
