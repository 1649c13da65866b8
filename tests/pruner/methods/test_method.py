"""Every method tells its settings, and a run resumes only with the same ones."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import ClassVar

import pytest
import torch
from torch import nn

import gpmt
from gpmt.errors import MaskError
from gpmt.pruner.methods.method import Method
from gpmt.pruner.methods.rule import Rule
from gpmt.pruner.trained_network import TrainedNetwork


@dataclass(frozen=True)
class Counted(Method):
    """Prunes to a sparsity of its own every few steps."""

    name: ClassVar[str] = "counted"
    every: int = 2

    @property
    def last(self) -> int:
        return 2 * self.every

    def updates_at(self, step: int) -> bool:
        return step in (self.every, self.last)

    def rule(self, network: TrainedNetwork) -> Rule:
        return CountedRule(network)


class CountedRule(Rule):
    def __init__(self, network: TrainedNetwork) -> None:
        super().__init__(network)
        self.updates: list[int] = []

    def update(self, step: int) -> None:
        self.updates.append(step)


def pruner_of(method: Method) -> tuple[gpmt.Pruner, torch.optim.Optimizer]:
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.5), method=method), optimizer


def test_settings_are_plain_values() -> None:
    assert json.loads(json.dumps(Counted(3).to_dict())) == {"name": "counted", "every": 3}


def test_a_method_of_the_user_is_called_at_its_steps() -> None:
    pruner, optimizer = pruner_of(Counted())
    for step in range(1, 6):
        optimizer.step()
        assert pruner.finished == (step >= 4)
    assert isinstance(pruner._rule, CountedRule)
    assert pruner._rule.updates == [2, 4]


def test_a_run_is_resumed_with_its_method_only() -> None:
    state = pruner_of(Counted(2))[0].state_dict()
    pruner_of(Counted(2))[0].load_state_dict(state)
    with pytest.raises(MaskError, match="'name': 'counted', 'every': 2"):
        pruner_of(gpmt.Hard())[0].load_state_dict(state)


def test_a_state_of_before_there_were_methods_is_one_of_hard_masks() -> None:
    pruner, _ = pruner_of(gpmt.Hard())
    state = pruner.state_dict()
    del state["settings"]["method"], state["method"]
    pruner.load_state_dict(state)
    with pytest.raises(MaskError, match=r"saved with method=.'name': 'hard'"):
        pruner_of(Counted())[0].load_state_dict(state)


def test_the_method_of_the_document_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example in docs/extending.md, as a user's module."""
    document = (Path(__file__).parents[3] / "docs/extending.md").read_text()
    section = document.split("## To add a training method\n")[1].split("\n## ")[0]
    [code] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (tmp_path / "decaying.py").write_text(dedent(code))
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("decaying")
    pruner, optimizer = pruner_of(module.Decay(rate=0.5))
    before = pruner._network.model.weight.detach().clone()  # type: ignore[union-attr,operator]
    optimizer.step()
    after = pruner._network.model.weight.detach()  # type: ignore[union-attr,operator]
    assert torch.allclose(after, before - 0.5 * before.sign())
    assert pruner.state_dict()["settings"]["method"] == {"name": "decay", "rate": 0.5}
