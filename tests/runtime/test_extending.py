"""The steps of docs/extending.md lead to an operator that is captured, optimized, saved, lowered and run."""

import importlib
import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from tests.runtime.networks import kinds, noise
from torch import nn

import gpmt
from gpmt.runtime import frontend, lowering
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.frontend.handlers import HANDLERS
from gpmt.runtime.ir import operators
from gpmt.runtime.ir.operator import OPERATORS
from gpmt.runtime.ir.serialization import read, write
from gpmt.runtime.ir.validation import check_graph
from gpmt.runtime.lowering.rules import LOWERINGS
from gpmt.runtime.passes.pipeline import PASSES
from gpmt.runtime.program import load_program

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs/extending.md").read_text().split("## To add an operator of the runtime\n")[1]
SECTION = SECTION.split("\n## ")[0]
MODULES = [(operators, "negate"), (frontend, "aten_negate"), (lowering, "lower_negate")]
IMAGES = noise(2, 3, 6, 5)


class Network(nn.Module):
    """A negation between convolutions, and one of what a convolution's activation returns."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        y = self.first(x).relu()
        return self.second(-y), y.neg()


@pytest.fixture
def network():
    return Network().eval()


@pytest.fixture(autouse=True)
def negate(tmp_path, monkeypatch):
    """The three printed modules as part of their packages, and the tables afterwards as before."""
    tables = OPERATORS, HANDLERS, LOWERINGS
    before = [dict(table) for table in tables]
    codes = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    for (package, name), code in zip(MODULES, codes, strict=True):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(dedent(code))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        importlib.import_module(f"{package.__name__}.{name}")
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)
    for package, name in MODULES:
        del sys.modules[f"{package.__name__}.{name}"]
        delattr(package, name)


def test_these_are_the_steps():
    assert re.findall(r"^\d+\. \*\*(.+?)\*\*", SECTION, re.MULTILINE) == [
        "Define it",
        "Translate ATen's operator",
        "Write its kernel",
        "Lower it",
        "Let it be merged",
        "Test it.",
        "Describe it",
    ]


def test_it_is_captured_and_legal_in_every_pass(network):
    graph = capture(network, IMAGES).graph
    for run_pass in PASSES:
        graph = run_pass(graph)
        check_graph(graph)
    assert kinds(graph) == {"Conv": 2, "Negate": 2}


def test_it_is_saved_and_read(network):
    graph = capture(network, IMAGES).graph
    again = read(*write(graph))
    assert [op for op in again.operators if type(op).__name__ == "Negate"] == [
        op for op in graph.operators if type(op).__name__ == "Negate"
    ]


def test_a_program_runs_it(network, tmp_path):
    program = gpmt.compile(network, IMAGES, threads=1, tune=False)
    assert program.fallbacks == []
    program.save(tmp_path / "negate.program.safetensors")
    again = load_program(tmp_path / "negate.program.safetensors", threads=1, tune=False)
    with torch.no_grad():
        for batch in (IMAGES, noise(5, 3, 6, 5)):
            for result, restored, right in zip(program(batch), again(batch), network(batch), strict=True):
                torch.testing.assert_close(result, right)
                assert torch.equal(result, restored)


def test_what_kernels_cannot_do_stays_on_pytorch():
    graph = capture(nn.Sequential(nn.Flatten(), nn.Linear(90, 2), Negated()).eval(), IMAGES).graph
    assert [op.reason for op in graph.operators[-1:]] == ["its input has 2 dimensions, not 4"]


class Negated(nn.Module):
    def forward(self, x):
        return -x
