"""Importers are found in their folders, and every file is recognised by the right one alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.formats.checkpoints import FIXTURES, pruned_weights, source, source_of
from torch import nn
from torch.nn.utils import prune

import gpmt
from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint, save_checkpoint
from gpmt.formats.exporters.csr import export_csr
from gpmt.formats.importers.registry import MASK_FILES, MASKED_WEIGHTS, WEIGHT_FILES, Kind, pickle_globals

KINDS = (MASK_FILES, WEIGHT_FILES, MASKED_WEIGHTS)

# fixture: the importer of masks alone, or those of the stored weights and of the masks among them
RECOGNISED = {
    "weight_mask.npy": "published",
    "nni_masks.pth": "nni",
    "exported.onnx": ("onnx", None),
    "fasterai.pt": ("torch_save", "fasterai"),
    "fasterai_filter.pt": ("torch_save", "fasterai"),
    "lightning_prune.pt": ("torch_save", "torch_prune"),
    "nncf2.pt": ("torch_save", "nncf"),
    "nncf2_rb.pt": ("torch_save", "nncf"),
    "nncf2_stripped.pt": ("torch_save", "nncf"),
    "nncf3.pt": ("torch_save", "nncf"),
    "nncf3_rb.pt": ("torch_save", "nncf"),
    "sparseml.pt": ("torch_save", "sparseml"),
    "compressed_tensors/24_bitmask": ("hub_folder", "compressed_tensors"),
    "compressed_tensors/bitmask": ("hub_folder", "compressed_tensors"),
    "compressed_tensors/bitmask_0.8": ("hub_folder", "compressed_tensors"),
    "compressed_tensors/quantised": ("hub_folder", "compressed_tensors"),
    "compressed_tensors/bitmask/model.safetensors": ("safetensors", "compressed_tensors"),
    "exported_expected.safetensors": ("safetensors", None),
}


def names(kind: Kind[Any], path: Path) -> list[str]:
    """The importers of a kind that recognise a file, each asked with a source of its own."""
    return [
        one.__name__.rpartition(".")[2]  # type: ignore[attr-defined]
        for one in kind.importers()
        if one.recognises(source(path))
    ]


def assert_recognised(path: Path, expected: str | tuple[str, str | None]) -> None:
    if isinstance(expected, str):
        assert names(MASK_FILES, path) == [expected]
        return
    stored, masked = expected
    assert names(MASK_FILES, path) == []
    assert names(WEIGHT_FILES, path) == [stored]
    assert names(MASKED_WEIGHTS, path) == [masked] * (masked is not None)


@pytest.mark.parametrize("name", RECOGNISED)
def test_one_importer_of_each_kind_recognises_a_fixture(name: str) -> None:
    if name.endswith(".onnx"):
        pytest.importorskip("onnx", reason="reading ONNX needs onnx")
    assert_recognised(FIXTURES / name, RECOGNISED[name])


def test_no_fixture_is_left_out() -> None:
    suffixes = (".pt", ".pth", ".npy", ".onnx", ".safetensors")
    files = [path for path in FIXTURES.rglob("*") if path.suffix in suffixes]
    listed = {FIXTURES / name for name in RECOGNISED}
    expected = {path for path in files if path.name.endswith("expected.safetensors")}
    assert not {path for path in files if not {path, path.parent} & listed} - expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.pt", ("torch_save", None)),
        ("model.safetensors", ("safetensors", None)),
        ("model.sparse.safetensors", ("safetensors", None)),
        ("model.csr.pt", ("torch_save", None)),
        ("masks.safetensors", "gpmt_masks"),
    ],
)
def test_the_files_of_gpmt(tmp_path: Path, name: str, expected: Any) -> None:
    path = tmp_path / name
    if name == "masks.safetensors":
        gpmt.Masks.from_dense({"fc.weight": torch.ones(2, 2, dtype=torch.bool)}).save(path)
    elif name == "model.csr.pt":
        export_csr(pruned_weights(), path)
    else:
        save_checkpoint(path, pruned_weights())
    assert_recognised(path, expected)


def test_an_empty_file_is_recognised_by_no_importer(tmp_path: Path) -> None:
    path = tmp_path / "empty.pt"
    path.touch()
    assert names(MASK_FILES, path) == []
    assert names(WEIGHT_FILES, path) == []
    with pytest.raises(CheckpointError, match=r"empty\.pt is empty; the program that wrote it"):
        names(MASKED_WEIGHTS, path)  # they ask for the weights, which no importer reads


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.package)
def test_every_module_of_a_folder_is_an_importer(kind: Kind[Any]) -> None:
    folder = Path(gpmt.__file__).parent / "formats" / "importers" / kind.package.rpartition(".")[2]
    found = {Path(str(one.__file__)) for one in kind.importers()}  # type: ignore[attr-defined]
    assert found == set(folder.glob("*.py")) - {folder / "__init__.py"}
    for one in kind.importers():
        assert isinstance(one.NAME, str)
        assert callable(one.recognises)
        assert callable(one.read)


def test_importers_are_asked_by_name_and_some_of_them_last() -> None:
    asked = [one.__name__.rpartition(".")[2] for one in MASKED_WEIGHTS.importers()]  # type: ignore[attr-defined]
    assert asked == ["compressed_tensors", "nncf", "torch_prune", "fasterai", "sparseml"]
    layer = nn.Linear(4, 2)
    prune.l1_unstructured(layer, "weight", amount=3)
    inside = {"state_dict": layer.state_dict(), "arch_key": "resnet18"}  # the key that SparseML writes
    file = source_of(Checkpoint(Path("a.pt"), layer.state_dict(), inside, "state_dict"))
    importer = MASKED_WEIGHTS.recognising(file)
    assert importer is not None
    assert importer.NAME == "torch.nn.utils.prune"


def test_no_pickle_global_is_claimed_twice() -> None:
    claimed = [name for _, name in pickle_globals()]
    assert {"collections.defaultdict", "nncf.api.compression.CompressionStage"} <= set(claimed)
    assert len(claimed) == len(set(claimed))
