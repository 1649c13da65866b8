"""The description of the format is true: the reader printed in it reads what gpmt writes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.formats.checkpoints import assert_same
from tests.formats.sparse.make_vectors import FOLDER, held, sparse_files
from tests.formats.sparse.networks import sparse

import gpmt
from gpmt.formats.masks import mask_file, rice
from gpmt.formats.sparse import header
from gpmt.formats.sparse.types import DTYPES
from gpmt.masks import Masks

DOCUMENT = (Path(__file__).parents[3] / "docs" / "format.md").read_text()


@pytest.fixture(scope="module")
def printed():
    """The function that the page prints."""
    code = re.search(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(re.search(r"def read.*", code[1], re.DOTALL)[0].splitlines()) < 35
    names = {}
    exec(code[1], names)
    return names["read"]


def test_the_printed_reader_reads(tmp_path, printed):
    shared = sparse((100, 30))
    weights = {
        "conv": sparse((30, 40, 3, 3), 0.1),
        "dense": torch.randn(7),
        "mostly": sparse((300, 300), 0.9),
        "long": sparse((70_000,), 0.02),
        "nothing": torch.zeros(50, 50),
        "half": sparse((60, 60), 0.1, torch.bfloat16),
        "eight": sparse((60, 60), 0.1, torch.float8_e5m2),
        "complex": sparse((60, 60), 0.1, torch.complex64),
        "shared": shared,
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "again": shared,
    }
    path = tmp_path / "a.sparse.safetensors"
    gpmt.save_sparse(weights, path, masks=Masks.from_dense({"empty": torch.ones(0, 3).bool()}))
    assert_same(printed(path), weights)


@pytest.mark.parametrize(
    "name", [name for name, (_, options) in sparse_files().items() if "values" not in options]
)
@pytest.mark.parametrize("folder", ["", "old"])
def test_the_printed_reader_reads_the_vectors(printed, folder, name):
    path = FOLDER / folder / f"{name}.sparse.safetensors"
    assert_same(printed(path), held(path))


def test_the_printed_example():
    mask = np.zeros(12, bool)
    mask[[0, 4, 8]] = True
    code = rice.encode(np.packbits(mask, bitorder="little"), 12)
    printed = re.search(r"The code is `([0-9a-f |]+)`", DOCUMENT)
    assert code.data.tobytes().hex() == printed[1].replace("|", "").replace(" ", "")
    assert code.parameter == 1


@pytest.mark.parametrize(
    "value",
    [
        f"`version` | `{header.VERSION}`",
        f"{rice.BLOCK:,}",
        f"k, 0 to {rice.MAX_PARAMETER}",
        f"`gpmt-masks`, `version` `{mask_file.VERSION}`",
        "**Types** are " + " and ".join([", ".join(list(DTYPES)[:-1]), list(DTYPES)[-1]]) + ".",
    ],
)
def test_the_numbers_in_it(value):
    assert value in DOCUMENT
