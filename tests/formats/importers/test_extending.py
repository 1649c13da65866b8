"""The steps of docs/extending.md lead to an importer that works."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import gpmt
from gpmt.formats.importers import masked_weights, registry

DOCUMENT = (Path(__file__).parents[3] / "docs" / "extending.md").read_text()


@pytest.fixture
def importer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The printed importer as a further file in the folder of its kind."""
    section = DOCUMENT.partition("## To add an importer")[2].partition("\n## ")[0]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None
    folder = tmp_path / "added"
    folder.mkdir()
    (folder / "shrinker.py").write_text(re.sub("^   ", "", code[1], flags=re.MULTILINE))
    monkeypatch.setattr(masked_weights, "__path__", [*masked_weights.__path__, str(folder)])
    registry._find.cache_clear()
    yield
    monkeypatch.undo()
    registry._find.cache_clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    kept = torch.tensor([[1, 0], [0, 1]], dtype=torch.uint8)
    torch.save({"fc.weight": torch.ones(2, 2), "fc.weight.keep": kept}, tmp_path / "a.pt")
    return tmp_path / "a.pt"


@pytest.mark.usefixtures("importer")
def test_the_printed_importer_is_found_and_reads(path: Path) -> None:
    loaded = gpmt.load(path)
    assert loaded.source == "Shrinker"
    assert list(loaded.state_dict) == ["fc.weight"]
    assert torch.equal(loaded.state_dict["fc.weight"], torch.eye(2))
    assert loaded.masks is not None
    assert loaded.masks.total_pruned == 2


@pytest.mark.usefixtures("importer")
def test_the_printed_importer_refuses_what_is_damaged(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "w.keep": torch.tensor([1, 7])}, tmp_path / "a.pt")
    with pytest.raises(
        gpmt.GpmtError, match=r"a\.pt: w\.keep holds the value 7, but a mask holds only 0 and 1"
    ):
        gpmt.load(tmp_path / "a.pt")


def test_without_it_the_masks_are_tensors(path: Path) -> None:
    assert list(gpmt.load(path).state_dict) == ["fc.weight", "fc.weight.keep"]
