"""What is in the folders is tested in test_hub_folder.py of formats; here, which paths are taken for one."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file
from tests.formats.checkpoints import assert_same, source, weights

from gpmt.errors import CheckpointError
from gpmt.formats.importers.weight_files import hub_folder


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """The index of a folder with one shard."""
    save_file(weights(), tmp_path / "model-00001.safetensors")
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": dict.fromkeys(weights(), "model-00001.safetensors")}))
    return path


def test_a_folder_and_its_index_give_the_same_weights(index: Path) -> None:
    for path in (index, index.parent):
        assert hub_folder.recognises(source(path))
        checkpoint = hub_folder.read(source(path))
        assert_same(checkpoint.state_dict, weights())
        assert (checkpoint.path, checkpoint.source) == (path, hub_folder.NAME)


def test_a_single_file_of_a_folder_is_not_a_folder(index: Path) -> None:
    assert not hub_folder.recognises(source(index.parent / "model-00001.safetensors"))


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    assert hub_folder.recognises(source(tmp_path))
    with pytest.raises(CheckpointError, match=tmp_path.name):
        hub_folder.read(source(tmp_path))
