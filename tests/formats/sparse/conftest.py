"""A sparse file of a small network, and the name of one to write."""

import pytest
from tests.formats.sparse.networks import state

import gpmt


@pytest.fixture
def path(tmp_path):
    gpmt.save_sparse(state(), tmp_path / "m.sparse.safetensors")
    return tmp_path / "m.sparse.safetensors"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.sparse.safetensors"
