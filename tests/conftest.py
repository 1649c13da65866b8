"""Options and markers of the test suite."""

import pytest
import torch


def pytest_addoption(parser):
    parser.addoption(
        "--slow", action="store_true", help="also run the tests that take more than a few seconds"
    )


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with `make test-all`"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))
