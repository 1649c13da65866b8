import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from torch import Tensor

from gpmt.errors import CheckpointError, ScopeError
from gpmt.formats.checkpoint import load_checkpoint, save_checkpoint
from gpmt.formats.exporters.card import model_card
from gpmt.masks import Masks

yaml = pytest.importorskip("yaml", reason="gpmt[train] is not installed")


def weights() -> dict[str, Tensor]:
    return {
        "conv.weight": torch.tensor([1.0, 0.0, 2.0]).repeat(4, 2).reshape(4, 2, 3, 1),
        "conv.bias": torch.ones(4),
        "dead.weight": torch.zeros(5, 2),
        "fc.weight": torch.eye(3),
    }


def rows(card: str, title: str = "tensor") -> list[list[str]]:
    """The cells of the table whose first column has this title, as a reader of Markdown sees them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(card.split("---\n", 2)[2])
    tables: list[list[list[str]]] = []
    for i, token in enumerate(tokens):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in ("th_open", "td_open"):
            tables[-1][-1].append("".join(child.content for child in tokens[i + 1].children or []))
    return next(table for table in tables if table[0][0] == title)


def header(card: str) -> dict[str, Any]:
    front: dict[str, Any] = yaml.safe_load(card.split("---\n", 2)[1])
    return front


def test_the_whole_card() -> None:
    card = model_card(weights(), name="a_b", base="org/base", source_command="gpmt prune in.pt -o out.pt")
    assert card == (
        """\
---
library_name: pytorch
tags:
- pruning
- sparse
- gpmt
base_model: "org/base"
---

# a\\_b

24 of 43 prunable weights are zero: a sparsity of 55.8140%. Pruned from `org/base`.

Prunable weights are those of the tensors below; biases, norms and all else are not counted. Tied tensors count once.

## Loading

```python
from safetensors.torch import load_file

state_dict = load_file("model.safetensors")
model.load_state_dict(state_dict)  # model: the network

# or, whatever the format:
import gpmt

model.load_state_dict(gpmt.load("model.safetensors").state_dict)  # model: the network
```

## Tensors

| tensor | shape | weights | kept | sparsity |
|---|---|---:|---:|---:|
| `conv.weight` | 4×2×3×1 | 24 | 16 | 33.33% |
| `dead.weight` | 5×2 | 10 | 0 | 100.00% |
| `fc.weight` | 3×3 | 9 | 3 | 66.67% |
| total | | 43 | 19 | 55.8140% |

The fewest weights are kept in `dead.weight`: 0 of 10. Tensors without any weight left: `dead.weight`.

## How it was made

```
gpmt prune in.pt -o out.pt
```
"""
    )


def test_no_licence_is_chosen_for_the_user() -> None:
    assert "licen" not in model_card(weights(), name="x").lower()


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1)
ODD = st.text("ab|`*_\\<>[]#~ ", min_size=1)


@given(name=NAMES | ODD, base=NAMES | ODD, tensor=ODD)
def test_any_name_is_shown_as_it_is(name: str, base: str, tensor: str) -> None:
    card = model_card({tensor + ".weight": torch.ones(2, 2)}, name=name, base=base)
    cells = rows(card)
    assert len(cells) == 3
    assert [len(row) for row in cells] == [5, 5, 5]
    assert " ".join(cells[1][0].split()) == " ".join((tensor + ".weight").split())
    assert header(card)["base_model"] == base
    tokens = MarkdownIt("commonmark").parse(card.split("---\n", 2)[2])
    assert next(token.tag for token in tokens if token.type == "heading_open") == "h1"
    shown = "".join(child.content for child in tokens[1].children or [])
    assert " ".join(shown.split()) == " ".join(name.split())


def checkpoint(folder: Path, name: str = "model.pt", **others: Any) -> Any:
    torch.save({"state_dict": weights(), **others} if others else weights(), folder / name)
    return load_checkpoint(folder / name)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("a.pt", 'state_dict = torch.load("a.pt", weights_only=True)\n'),
        ("a.safetensors", 'state_dict = load_file("a.safetensors")\n'),
    ],
)
def test_the_code_that_loads_it_runs(tmp_path: Path, file: str, line: str, monkeypatch: Any) -> None:
    save_checkpoint(tmp_path / file, weights())
    card = model_card(load_checkpoint(tmp_path / file), name="x")
    assert line in card
    code = card.split("```python\n")[1].split("# or, whatever")[0]
    monkeypatch.chdir(tmp_path)

    class Model:
        def load_state_dict(self, state: dict[str, Tensor]) -> None:
            assert {name: t.shape for name, t in state.items()} == {n: t.shape for n, t in weights().items()}

    exec(code, {"model": Model()})


def test_the_code_finds_weights_in_a_container(tmp_path: Path) -> None:
    card = model_card(checkpoint(tmp_path, epoch=3), name="x")
    assert 'torch.load("model.pt", weights_only=True)["state_dict"]\n' in card


def test_what_only_gpmt_reads(tmp_path: Path) -> None:
    held = replace(checkpoint(tmp_path), source="gpmt sparse")
    card = model_card(held, name="x")
    assert "torch.load" not in card
    assert 'gpmt.load("model.pt").state_dict' in card


@pytest.mark.parametrize(
    ("library", "line"), [("transformers", "from_pretrained(folder)"), ("timm", '"local-dir:{folder}"')]
)
def test_libraries(library: Any, line: str) -> None:
    card = model_card(weights(), name="x", library=library)
    assert line in card
    assert header(card)["library_name"] == library


def test_masks_of_the_file_say_what_is_prunable(tmp_path: Path) -> None:
    masks = Masks.from_dense({"fc.weight": torch.eye(3, dtype=torch.bool)})
    card = model_card(replace(checkpoint(tmp_path), masks=masks), name="x")
    assert [row[0] for row in rows(card)] == ["tensor", "fc.weight", "total"]


SCORE = {"loss": 1.0, "top1": 0.8497, "top5": 0.9934, "images": 10000}
METRICS = {
    "unit": "weights",
    "weights": 43,
    "kept": 19,
    "dense": SCORE | {"top1": 0.9},
    "pruned": None,
    "finetuned": SCORE,
}


def accuracy(card: str) -> list[list[str]]:
    return rows(card, "network")[1:] if "## Accuracy" in card else []


def test_accuracy_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    expected = [["dense", "90.00%", "99.34%", "10,000"], ["this network", "84.97%", "99.34%", "10,000"]]
    assert accuracy(model_card(checkpoint(tmp_path), name="x")) == expected
    assert accuracy(model_card(weights(), name="x", metrics=METRICS)) == expected
    assert accuracy(model_card(weights(), name="x", metrics=tmp_path / "metrics.json")) == expected
    few = METRICS | {"finetuned": {"loss": 1.0, "top1": 0.5, "top5": None, "images": 20}}
    assert accuracy(model_card(weights(), name="x", metrics=few))[1] == ["this network", "50.00%", "", "20"]


def test_accuracy_is_not_taken_from_other_weights(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    assert accuracy(model_card(checkpoint(tmp_path, "best.pt"), name="x")) == []
    for other in ({"kept": 18}, {"weights": 44}, {"unit": "columns"}):
        (tmp_path / "metrics.json").write_text(json.dumps(METRICS | other))
        assert accuracy(model_card(checkpoint(tmp_path), name="x")) == []


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "[" * 100_000])
def test_damaged_metrics(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    message = r"metrics\.json is not the metrics\.json of a gpmt run \(.*\); give another$"
    with pytest.raises(CheckpointError, match=message):
        model_card(checkpoint(tmp_path), name="x")


@pytest.mark.parametrize(
    "held", [{}, {"finetuned": {"top1": "<b>"}}, {"finetuned": {"top1": 91.0}}, {"dense": 3}]
)
def test_metrics_without_accuracy(held: dict[str, Any]) -> None:
    with pytest.raises(
        CheckpointError, match=r"^metrics: no accuracy is in it, such as that of finetuned; give the"
    ):
        model_card(weights(), name="x", metrics=held)


def test_nothing_prunable() -> None:
    with pytest.raises(ScopeError, match="no prunable tensor"):
        model_card({"bias": torch.ones(3)}, name="x")


def test_many_dead_tensors_are_counted() -> None:
    card = model_card({f"l{i}.weight": torch.zeros(2, 2) for i in range(14)}, name="x")
    assert "`l9.weight` and 4 more." in card
