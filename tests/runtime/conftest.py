"""Fixtures for tests of the runtime: a folder for compiled kernels and tuning results, and programs."""

import os

import pytest
from tests.runtime import programs
from tests.runtime.networks import mixed, small
from tests.runtime.saved_programs import INPUTS, compiled, pruned


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Keep the user's cache out of it; processes that tests start inherit the folder."""
    before = os.environ.get("GPMT_CACHE")
    base = tmp_path_factory.getbasetemp()
    folder = (
        base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    ) / "gpmt-cache"  # one for all workers
    folder.mkdir(exist_ok=True)
    os.environ["GPMT_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["GPMT_CACHE"]
    else:
        os.environ["GPMT_CACHE"] = before


@pytest.fixture(scope="session")
def saved_program(cache_folder, tmp_path_factory):
    """Return a program, and the file that it was saved to."""
    program = compiled(pruned(), *INPUTS)
    path = tmp_path_factory.mktemp("program") / "x.program.safetensors"
    program.save(path)
    return program, path


@pytest.fixture(scope="module", params=[small, mixed], ids=["native", "mixed"])
def pair(request):
    """A network and its program."""
    network = request.param()
    return network, programs.compiled(network)
