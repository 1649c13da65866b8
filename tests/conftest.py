"""Options, markers, threads and the hypothesis profile of the test suite."""

import os

import pytest
import torch
from hypothesis import settings

settings.register_profile(
    "gpmt", deadline=None
)  # the first example compiles code, and tests share the processor
settings.load_profile("gpmt")


def pytest_addoption(parser):
    parser.addoption(
        "--slow", action="store_true", help="also run the tests that take more than a few seconds"
    )
    parser.addoption("--browser", action="store_true", help="also run the tests that open pages in Chromium")


def pytest_configure(config):
    if getattr(config.option, "numprocesses", None):
        # Workers run side by side, so each has one thread, as have the processes that its tests start.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with `make test-all`"))
        if item.get_closest_marker("browser") and not config.getoption("--browser"):
            item.add_marker(pytest.mark.skip(reason="browser: run with `make test-browser`"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))
