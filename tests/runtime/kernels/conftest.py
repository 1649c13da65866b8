"""Every test of a kernel runs twice: on this processor, and, as a slow test, for aarch64 in an emulator."""

import pytest
from tests.runtime import aarch64
from tests.runtime.kernels import emulated, guarded


def pytest_generate_tests(metafunc):
    if not metafunc.definition.get_closest_marker("native_only"):
        emulator = pytest.param("aarch64", marks=[pytest.mark.slow, pytest.mark.aarch64])
        metafunc.parametrize("executor", ["native", emulator], indirect=True)


@pytest.fixture(scope="session")
def harness(tmp_path_factory):
    return emulated.harness(tmp_path_factory.mktemp("harness"))


@pytest.fixture(scope="module", autouse=True)
def executor(request, tmp_path_factory):
    """Where `guarded.run` runs kernels."""
    if getattr(request, "param", "native") == "native":
        yield
        return
    if reason := aarch64.missing():
        pytest.skip(reason)
    emulator = emulated.Emulator(request.getfixturevalue("harness"), tmp_path_factory.mktemp("kernels"))
    with guarded.executed_by(emulator):
        yield
    emulator.close()
