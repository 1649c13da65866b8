"""The folder of a run stands for its model.pt, and no other folder does."""

from pathlib import Path

import pytest
import torch
from tests.formats.checkpoints import FIXTURES

import gpmt
from gpmt.errors import CheckpointError, MaskError
from gpmt.formats.run_result import is_run, weights_file
from gpmt.training.recipes.files import load_recipe
from gpmt.training.run.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = RunFolder(tmp_path / "run")
    folder.start(load_recipe("digits"), resume=False)
    weights = {"a.weight": torch.eye(4), "b.weight": torch.ones(2, 2)}
    folder.save_weights(folder.dense, {name: torch.ones_like(tensor) for name, tensor in weights.items()}, {})
    folder.save_weights(folder.model, weights, {})
    gpmt.Masks.from_dense({name: tensor != 0 for name, tensor in weights.items()}).save(folder.masks)
    return folder.path


def test_the_folder_of_a_run_is_its_result(run: Path) -> None:
    assert is_run(run)
    assert weights_file(run) == run / "model.pt"
    loaded = gpmt.load(run)
    assert loaded.path == run / "model.pt"
    assert torch.equal(loaded.state_dict["a.weight"], torch.eye(4))
    assert gpmt.verify(run, sparsity="12/20", masks=run / "masks.safetensors")
    assert gpmt.load(run / "masks.safetensors", weights=run).masks == gpmt.Masks.load(
        run / "masks.safetensors"
    )
    assert weights_file(run / "dense.pt") == run / "dense.pt"


def test_a_run_without_its_result(run: Path) -> None:
    (run / "model.pt").unlink()
    with pytest.raises(
        CheckpointError,
        match=r"run is the folder of a run without its result, model.pt; finish the run with "
        r"gpmt run .*run/recipe.yaml --resume, or give another file of it$",
    ):
        gpmt.load(run)


def test_the_folder_of_a_sweep_is_not_that_of_a_run(run: Path) -> None:
    (run / "sweep.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"run is the folder of a sweep; give that of one of its runs$"):
        gpmt.load(run)


def test_a_folder_of_another_library_may_have_a_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "bitmask"
    folder.mkdir()
    for file in (FIXTURES / "compressed_tensors" / "bitmask").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "recipe.yaml").write_text("sparsity_stage: {}\n")
    assert not is_run(folder)
    assert gpmt.load(folder).source == "compressed-tensors"


def test_masks_are_not_looked_for_in_a_folder(run: Path) -> None:
    with pytest.raises(
        MaskError, match=r"run is a folder; give a mask file, such as the masks.safetensors of a"
    ):
        gpmt.Masks.load(run)
