"""Sparse initialisers become dense tensors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.formats.importers.weight_files.onnx_files import read, sparse, write

from gpmt.errors import CheckpointError


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
    coordinates=st.booleans(),
)
def test_sparse_initialisers(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], seed: int, coordinates: bool
) -> None:
    rng = np.random.default_rng(seed)
    dense = (rng.standard_normal(shape) * (rng.random(shape) < 0.4)).astype(np.float32)
    indices = np.argwhere(dense) if coordinates else np.flatnonzero(dense)
    proto = sparse(
        shape, indices.reshape(-1, len(shape)) if coordinates else indices, dense[dense != 0].tolist()
    )
    found = read(write(tmp_path_factory.mktemp("onnx") / "a.onnx", [], [proto])).state_dict["w"]
    assert torch.equal(found, torch.from_numpy(dense))
    assert not found[found == 0].signbit().any()


@pytest.mark.parametrize(
    ("proto", "sentence"),
    [
        (
            sparse([2**20, 2**20], [3], [1.0]),
            r"gives the sparse 'w' the shape \[1048576, 1048576\], which is too large",
        ),
        (
            sparse([2**31, 2**31, 2**31], [3], [1.0]),
            "which is too large for so small a file; export it densely$",
        ),
        (sparse([-2, -3], [3], [1.0]), "which is too large"),
        (sparse([], [3], [1.0]), "which is too large"),
        (sparse([2, 3], [6], [1.0]), "has an index outside the sparse 'w'; export it again$"),
        (sparse([2, 3], [-1], [1.0]), "has an index outside"),
        (sparse([2, 3], [[1, 3]], [1.0]), "has an index outside"),
        (sparse([2, 3], [[2, 0]], [1.0]), "has an index outside"),
        (sparse([2, 3], [[0, -1]], [1.0]), "has an index outside"),
        (sparse([2, 3], [1, 2], [1.0]), "has no index for each value of the sparse 'w'"),
        (sparse([2, 3], [[1]], [1.0]), "has no index for each value"),
    ],
    ids=range(11),
)
def test_sparse_initialisers_that_lie(tmp_path: Path, proto: Any, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=rf"a\.onnx {sentence}|a\.onnx gives .*{sentence}"):
        read(write(tmp_path / "a.onnx", [], [proto]))


def test_many_sparse_initialisers_share_one_limit(tmp_path: Path) -> None:
    protos = [sparse([2**22], [3], [1.0], name=str(position)) for position in range(1000)]
    with pytest.raises(CheckpointError, match="which is too large for so small a file"):
        read(write(tmp_path / "a.onnx", [], protos))
