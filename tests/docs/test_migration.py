"""The migration pages leave nothing out: functions of torch.nn.utils.prune, options of scripts, published rows."""

import inspect
import re

import pytest
from tests.docs.pages import ROOT
from torch.nn.utils import prune

from gpmt.training.models.registry import check_name
from gpmt.training.recipes.files import load_recipe
from gpmt.training.recipes.overrides import full_key

FOLDER = ROOT / "docs" / "migration"
TORCH = (FOLDER / "torch-prune.md").read_text()
SCRIPTS = (FOLDER / "published-scripts.md").read_text()


def rows(text: str, title: str) -> list[list[str]]:
    """Return the cells of the table under a heading."""
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


PUBLIC = [
    name
    for name, value in vars(prune).items()
    if not name.startswith("_") and getattr(value, "__module__", None) == prune.__name__
]
METHODS = [name for name in vars(prune.BasePruningMethod) if not name.startswith("_")]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_of_torch_prune_has_its_line(name: str) -> None:
    title = "Every class" if inspect.isclass(getattr(prune, name)) else "Every function"
    assert any(re.search(rf"\bprune\.{name}\b", old) and new for old, new in rows(TORCH, title))


@pytest.mark.parametrize("name", [*METHODS, "add_pruning_method"])
def test_every_method_of_its_classes_has_its_line(name: str) -> None:
    assert any(
        re.search(rf"`{name}\b", old) or f"`, `{name}(" in old for old, _ in rows(TORCH, "Every class")
    )


def test_settings_of_the_scripts_name_keys_that_there_are() -> None:
    named = [
        *rows(SCRIPTS, "Options of prune_GP.py and prune_GPMT.py"),
        *rows(SCRIPTS, "What had to be edited inside"),
    ]
    keys = {
        key
        for _, new in named
        for key in re.findall(r"`(?:\w+ )*((?:data|dense|prune|finetune|compute)\.\w+)", new)
    }
    assert len(keys) > 20
    assert {key: full_key(key) for key in keys} == {key: key for key in keys}


def test_networks_of_the_scripts_are_known() -> None:
    names = [
        name
        for old, new in rows(SCRIPTS, "Networks of model_list.py")
        for name in re.findall(r"`([^`]+)`", old if new.startswith("the same names") else new)
        if not name[0].isupper()
    ]
    assert len(names) == 15
    for name in names:
        check_name(name)


PUBLISHED = rows(SCRIPTS, "Every published row")


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row[3].split()[2])
def test_a_published_row_is_that_of_its_recipe(row: list[str]) -> None:
    _, sparsity, top1, command = row
    recipe = load_recipe(command.split()[2], ["data.root=FOLDER"], look_up=False)
    assert recipe.expects.top1 == float(top1)
    if sparsity != "–":
        assert float(recipe.prune.sparsity) == pytest.approx(float(sparsity.removesuffix(" %")) / 100)
