"""The steps to add an allocation in docs/extending.md, followed with the file that stands there."""

import importlib.util
import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
import typer
from typer.testing import CliRunner

import gpmt
import gpmt.cli.prune
from gpmt import allocations
from gpmt.errors import BudgetError, RecipeError
from gpmt.training.recipes.files import load_recipe

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs/extending.md").read_text().split("## To add an allocation\n")[1].split("\n## ")[0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that counts as part of `gpmt.allocations` during the test."""
    monkeypatch.setattr(allocations, "__path__", [*allocations.__path__, str(tmp_path)])
    yield tmp_path
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(f"gpmt.allocations.{path.stem}", None)
        vars(allocations).pop(path.stem, None)


@pytest.fixture
def equal(folder):
    [code] = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    path = folder / "equal.py"
    path.write_text(dedent(code))
    return path


def prune_help():
    """Return the help of `gpmt prune` as a new process would show it."""
    importlib.reload(gpmt.cli.options)
    spec = importlib.util.spec_from_file_location("prune_anew", gpmt.cli.prune.__file__)
    module = sys.modules["prune_anew"] = importlib.util.module_from_spec(spec)  # its dataclasses look there
    spec.loader.exec_module(module)
    del sys.modules["prune_anew"]
    app = typer.Typer()
    app.command()(module.prune)
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, ["--help"]).stdout


def test_these_are_the_steps():
    assert re.findall(r"^\d+\. \*\*(.+?)\*\*", SECTION, re.MULTILINE) == [
        "Write its file.",
        "Declare what it supports.",
        "Leave the rest alone.",
        "Test it.",
        "Describe it",
    ]


def test_the_class_attributes_and_files_that_the_steps_name_exist():
    attributes = SECTION.split("The class attributes ")[1].split(" have")[0]
    method = allocations.find("uniform")
    assert [getattr(method, name) for name in re.findall("`(.+?)`", attributes)] == [True] * 4 + [False] * 2
    for path in re.findall(r"\(\.\./(.+?)\)|`(tests/[^`]*allocations\.py)`", SECTION):
        assert (ROOT / "".join(path)).exists(), path


def test_the_file_alone_makes_the_allocation_known(equal, network):
    assert "equal" in allocations.names()
    plan = gpmt.plan(network, sparsity=0.9, min_kept=150, allocation="equal")
    numbers = [row.kept for row in plan.tensors]
    assert (sum(numbers), plan.threshold) == (plan.numel - plan.numel * 9 // 10, None)
    assert (numbers[1], numbers[4]) == (144, 120)
    assert {max(numbers) - number for number in (numbers[0], *numbers[2:4])} <= {0, 1}
    assert plan.to_dict()["allocation"] == "equal"
    matrices = {name: tensor for name, tensor in network.items() if tensor.ndim == 2}
    assert gpmt.plan(matrices, sparsity=0.5, allocation="equal", granularity="column").pruned == 176
    layer = torch.nn.Linear(10, 10)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    assert gpmt.Pruner(layer, optimizer, schedule=gpmt.OneShot(0.5), allocation="equal").plan.pruned == 50
    assert "equal, erk, exact, " in prune_help()
    assert load_recipe("digits", ["allocation=equal"]).prune.allocation == "equal"
    with pytest.raises(BudgetError, match="allocation is 'other', but must be one of equal, erk, "):
        gpmt.plan(network, sparsity=0.9, allocation="other")


def test_what_the_file_declares_decides(equal, network):
    declaration = "(CountAllocation):\n    columns, exact_total, global_threshold = False, False, True\n"
    equal.write_text(equal.read_text().replace("(CountAllocation):\n", declaration))
    matrices = {name: tensor for name, tensor in network.items() if tensor.ndim == 2}
    with pytest.raises(
        BudgetError, match=r'allocation "equal" shares single weights only, so it has no mean'
    ):
        gpmt.plan(matrices, sparsity=0.5, allocation="equal", granularity="column")
    assert not allocations.find("equal").exact_total


def test_without_its_file_the_allocation_is_unknown(network):
    assert "equal" not in allocations.names()
    assert "equal, erk" not in prune_help()
    with pytest.raises(BudgetError, match="allocation is 'equal'"):
        gpmt.plan(network, sparsity=0.9, allocation="equal")
    with pytest.raises(RecipeError, match=r"prune.allocation is 'equal', but must be one of"):
        load_recipe("digits", ["allocation=equal"])
