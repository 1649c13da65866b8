"""The description of the format is true: the reader printed in it reads what gpmt writes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.formats.sparse.networks import sparse

import gpmt
from gpmt.formats.masks import mask_file, rice
from gpmt.formats.sparse import header

DOCUMENT = (Path(__file__).parents[3] / "docs" / "format.md").read_text()


def test_the_printed_reader_reads(tmp_path):
    code = re.search(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names = {}
    exec(code[1], names)
    shared = sparse((100, 30))
    weights = {
        "conv": sparse((30, 40, 3, 3), 0.1),
        "dense": torch.randn(7),
        "mostly": sparse((300, 300), 0.9),
        "long": sparse((70_000,), 0.02),
        "nothing": torch.zeros(50, 50),
        "shared": shared,
        "again": shared,
    }
    path = tmp_path / "a.sparse.safetensors"
    gpmt.save_sparse(weights, path)
    read = names["read"](path)
    assert set(read) == set(weights)
    for name, tensor in weights.items():
        np.testing.assert_array_equal(read[name], tensor.numpy())


def test_the_printed_example():
    mask = np.zeros(12, bool)
    mask[[0, 4, 8]] = True
    code = rice.encode(np.packbits(mask, bitorder="little"), 12)
    printed = re.search(r"The code is `([0-9a-f |]+)`", DOCUMENT)
    assert code.data.tobytes().hex() == printed[1].replace("|", "").replace(" ", "")
    assert code.parameter == 1


@pytest.mark.parametrize(
    "value",
    [f"`version` | `{header.VERSION}`", f"{rice.BLOCK:,}", f"`gpmt-masks`, `version` {mask_file.VERSION}"],
)
def test_the_numbers_in_it(value):
    assert value in DOCUMENT
