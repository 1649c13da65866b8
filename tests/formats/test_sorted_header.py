"""Equal content gives equal files."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from tests.formats.checkpoints import WRITERS, pruned_weights, weights
from torch import Tensor

import gpmt
from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import load_checkpoint, save_checkpoint
from gpmt.formats.exporters.card import model_card
from gpmt.formats.exporters.hub import export_hub
from gpmt.formats.sorted_header import save_safetensors


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "kind", ["a.pt", "a.pth.tar", "a.safetensors", "a.sparse.safetensors", "masks.safetensors"]
)
def test_the_same_content_is_the_same_file(tmp_path: Path, kind: str) -> None:
    original = tmp_path / "original.pt"
    WRITERS["zip"]({"state_dict": pruned_weights(), "epoch": 3}, original)
    digests = set()
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        checkpoint = load_checkpoint(original)
        checkpoint.metadata = {"one": "1", "two": "2", "three": "3"}
        if kind == "masks.safetensors":
            gpmt.Masks.from_dense({n: t != 0 for n, t in checkpoint.state_dict.items()}).save(folder / kind)
        else:
            save_checkpoint(folder / kind, checkpoint)
        digests.add(digest(folder / kind))
    assert len(digests) == 1


def test_it_is_what_safetensors_writes_in_another_order(tmp_path: Path) -> None:
    metadata = {name: name.upper() for name in "zyxwabcd"}
    save_file(weights(), tmp_path / "theirs", metadata=metadata)
    save_safetensors(weights(), tmp_path / "ours", metadata)
    theirs, ours = ((tmp_path / name).read_bytes() for name in ("theirs", "ours"))
    length = 8 + int.from_bytes(ours[:8], "little")
    assert (len(theirs), theirs[:8], theirs[length:]) == (len(ours), ours[:8], ours[length:])
    assert json.loads(theirs[8:length]) == json.loads(ours[8:length])
    assert list(json.loads(ours[8:length])["__metadata__"]) == sorted(metadata)


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=5), st.text(min_size=1, max_size=8)
)
def test_any_text_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, metadata: dict[str, str], name: str
) -> None:
    path = tmp_path_factory.mktemp("header") / "a"
    tensors = {name if name != "__metadata__" else "x": torch.arange(3)}
    save_safetensors(tensors, path, metadata)
    with safe_open(path, framework="pt") as file:
        assert (file.metadata() or {}) == metadata
        assert set(file.keys()) == tensors.keys()
    held = path.read_bytes()
    save_safetensors(tensors, path, dict(reversed(metadata.items())))
    assert path.read_bytes() == held


NOT_UNICODE: dict[str, Callable[[dict[str, Tensor], Path], object]] = {
    "a.safetensors": lambda state, path: save_checkpoint(path, state),
    "masks.safetensors": lambda state, path: gpmt.plan(state, sparsity=0.5).masks().save(path),
    "hub": lambda state, path: export_hub(state, path),
}


@pytest.mark.parametrize("kind", NOT_UNICODE)
def test_names_that_are_not_unicode_are_refused(tmp_path: Path, kind: str) -> None:
    torch.save({"\udcffa.weight": torch.eye(2)}, tmp_path / "a.pt")
    state = gpmt.load(tmp_path / "a.pt").state_dict
    with pytest.raises(
        CheckpointError, match=r"^'\\udcffa\.weight' is not valid Unicode, as names and metadata"
    ):
        NOT_UNICODE[kind](state, tmp_path / kind)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
    assert r"\udcffa.weight" in model_card(state, name="a").encode().decode()
