import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.parallel import DataParallel

import gpmt
from gpmt.errors import CheckpointError, ScoresError
from gpmt.scores.files import check_fit
from tests.calibration.networks import make


def test_scores_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "scores.safetensors"
    scores = {
        "b": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "a": torch.tensor([[torch.inf, -torch.inf], [-0.0, 1e300]], dtype=torch.float64).T,
    }
    gpmt.scores.save(path, scores)
    found = gpmt.scores.load(path)
    assert list(found) == ["b", "a"]
    for name, score in scores.items():
        assert torch.equal(found[name], score)
        assert found[name].dtype == score.dtype
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_depend_on_the_scores_alone(tmp_path: Path) -> None:
    scores = gpmt.scores.random(nn.Linear(30, 20))
    files = []
    for name in ("a", "b"):
        gpmt.scores.save(tmp_path / name, scores)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


def test_tied_scores_of_one_memory_can_be_saved(tmp_path: Path) -> None:
    score = torch.ones(2, 2)
    gpmt.scores.save(tmp_path / "scores", {"a": score, "b": score})
    assert list(gpmt.scores.load(tmp_path / "scores")) == ["a", "b"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_files_of_other_programs_are_read_in_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "scores.safetensors"
    save_file({"weight": torch.ones(2, 2, dtype=dtype)}, path)
    assert gpmt.scores.load(path, nn.Linear(2, 2))["weight"].dtype == torch.float32


def test_they_are_checked_against_a_network(tmp_path: Path) -> None:
    path = tmp_path / "scores.safetensors"
    model, batches = make("tied")
    scores = gpmt.scores.taylor(model, batches)
    gpmt.scores.save(path, dict(reversed(scores.items())))
    found = gpmt.scores.load(path, DataParallel(model))
    assert list(found) == list(scores)
    assert all(torch.equal(found[name], scores[name]) for name in scores)
    assert list(gpmt.scores.load(path, model, exclude="head")) == ["first.weight"]
    assert list(gpmt.scores.load(path, model.state_dict(), scope="head")) == ["head.weight"]

    gpmt.scores.save(path, {"second.weight": scores["first.weight"], "head.weight": scores["head.weight"]})
    assert list(gpmt.scores.load(path, model)) == ["first.weight", "head.weight"]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"weight": torch.ones(2, 3)},
            r"s.safetensors has scores of shape \[2, 3\] for weight, whose shape is \[2, 2\]",
        ),
        (
            {"weights": torch.ones(2, 2)},
            r"weights, which the network does not have \(it has weight\); give",
        ),
        (
            {"bias": torch.ones(2)},
            r"s.safetensors has no scores of weight; give scores of all prunable tensors",
        ),
        (
            {"weight": torch.tensor([[1, torch.nan], [torch.nan, 1]])},
            "2 of the 4 scores of weight are NaN, which cannot be ranked",
        ),
        (
            {"weight": torch.ones(2, 2, dtype=torch.int64)},
            r"s.safetensors: the scores of weight are torch.int64",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, Any], text: str) -> None:
    save_file(changed, tmp_path / "s.safetensors")
    with pytest.raises(ScoresError, match=text):
        gpmt.scores.load(tmp_path / "s.safetensors", nn.Linear(2, 2))


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    layer = nn.Linear(4, 4)
    masks, sparse, pickled = (tmp_path / name for name in ("m.safetensors", "x.sparse.safetensors", "w.pt"))
    gpmt.plan(layer, sparsity=0.5).masks().save(masks)
    gpmt.save_sparse(layer.state_dict(), sparse)
    torch.save(layer.state_dict(), pickled)
    later, empty = tmp_path / "later", tmp_path / "empty"
    save_file({"weight": torch.ones(1)}, later, metadata={"format": "gpmt-scores", "version": "2"})
    save_file({}, empty)
    for path, text in (
        (masks, "holds no scores .gpmt-masks."),
        (sparse, "holds no scores .gpmt-sparse"),
        (pickled, "is not a readable safetensors file"),
        (later, "has scores of format version 2, but this gpmt reads version 1"),
        (empty, "empty: no tensors; give scores"),
        (tmp_path, "is a folder; give a file of scores"),
        (tmp_path / "none", "none: no such file"),
    ):
        with pytest.raises(ScoresError, match=text):
            gpmt.scores.load(path)


@pytest.mark.parametrize("length", [0, 7, 100])
def test_files_that_are_cut_short_are_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "scores.safetensors"
    gpmt.scores.save(path, {"weight": torch.ones(20, 20)})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ScoresError, match="is not a readable safetensors file"):
        gpmt.scores.load(path)


@pytest.mark.parametrize("names", ["3", "[3, {}]", "[", "[" * 100_000])
def test_names_of_another_program_do_not_matter(tmp_path: Path, names: str) -> None:
    path = tmp_path / "scores.safetensors"
    save_file({"b": torch.ones(1), "a": torch.ones(1)}, path, metadata={"names": names})
    assert set(gpmt.scores.load(path)) == {"a", "b"}


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        ({}, "the scores: no tensors"),
        ({"a": torch.tensor([torch.nan])}, "the scores: 1 of the 1 scores of a are NaN"),
        ({"a": torch.ones(1, dtype=torch.int32)}, "the scores of a are torch.int32"),
        ({"a": torch.ones(1, device="meta")}, "a has no data"),
    ],
)
def test_what_cannot_be_ranked_is_not_written(tmp_path: Path, scores: dict[str, Any], text: str) -> None:
    with pytest.raises(ScoresError, match=text):
        gpmt.scores.save(tmp_path / "s", scores)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the folder .* does not exist"):
        gpmt.scores.save(tmp_path / "none" / "s", {"a": torch.ones(1)})


def test_the_metadata(tmp_path: Path) -> None:
    gpmt.scores.save(tmp_path / "s", {"b": torch.ones(1), "a": torch.ones(1)})
    with safe_open(tmp_path / "s", framework="pt") as file:
        assert file.metadata() == {"format": "gpmt-scores", "names": '["b", "a"]', "version": "1"}


def test_scores_of_other_tensors_do_not_fit() -> None:
    with pytest.raises(
        ScoresError, match="the mapping has scores of b, which is not among the tensors to prune"
    ):
        check_fit({"a": torch.ones(1), "b": torch.ones(1)}, {"a": torch.ones(1)}, "the mapping")


def test_the_package_hands_on_functions_not_modules() -> None:
    assert gpmt.scores is importlib.import_module("gpmt.scores")
    # A module of the same name would take the function's place when it is imported.
    modules = {path.stem for path in Path(gpmt.scores.__file__).parent.glob("*.py")}
    assert not modules & set(gpmt.scores.__all__)
    assert gpmt.scores.__all__ == sorted(gpmt.scores.__all__)
    assert all(callable(getattr(gpmt.scores, name)) for name in gpmt.scores.__all__)
