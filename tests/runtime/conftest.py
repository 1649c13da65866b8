"""Compiled kernels and tuning results of the tests: in a folder of their own, shared by the whole run."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Keep the user's cache out of it; processes that tests start inherit the folder."""
    before = os.environ.get("GPMT_CACHE")
    folder = tmp_path_factory.mktemp("gpmt-cache")
    os.environ["GPMT_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["GPMT_CACHE"]
    else:
        os.environ["GPMT_CACHE"] = before
