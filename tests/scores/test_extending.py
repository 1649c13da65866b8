"""The steps to add a score in docs/extending.md, followed with the file that stands there."""

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch

import gpmt
import gpmt.calibration.gradients
import gpmt.calibration.layer_inputs
import gpmt.calibration.squared_gradients
from tests.calibration.networks import make

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs/extending.md").read_text().split("## To add a score\n")[1].split("\n## ")[0]


def test_these_are_the_steps() -> None:
    assert re.findall(r"^\d+\. \*\*(.+?)\*\*", SECTION, re.MULTILINE) == [
        "Write its file",
        "Take what is there",
        "Export it",
        "Test it",
        "Describe it",
    ]


def test_what_the_steps_name_exists() -> None:
    for path in re.findall(r"\(\.\./(.+?)\)|`(tests/[^`]*)`", SECTION):
        assert (ROOT / "".join(path)).exists(), path
    assert callable(gpmt.calibration.gradients.mean_gradients)
    assert callable(gpmt.calibration.squared_gradients.mean_squared_gradients)
    assert callable(gpmt.calibration.layer_inputs.survey_scope)


@pytest.mark.parametrize("name", ["tied", "double"])
def test_the_file_is_a_score(name: str) -> None:
    [code] = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    space: dict[str, Any] = {}
    exec(dedent(code), space)
    model, batches = make(name)
    scores, fisher = space["sensitivity"](model, batches), gpmt.scores.fisher(model, batches)
    for tensor, score in scores.items():
        torch.testing.assert_close(score.square() / 2, fisher[tensor])
    plan = gpmt.plan(model, sparsity=0.5, scores=lambda net: space["sensitivity"](net, batches))
    assert plan.pruned == plan.numel // 2
