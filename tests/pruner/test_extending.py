"""The steps to write a schedule in docs/extending.md, followed with the class there and with a plain one."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import re
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest
import torch

import gpmt
from gpmt.errors import BudgetError, MaskError

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs/extending.md").read_text().split("## To write a schedule\n")[1].split("\n## ")[0]
PLAIN = """
class Steps(gpmt.Schedule):
    \"\"\"A class without fields: settings are what the object has.\"\"\"

    def __init__(self, sparsities, every):
        self.sparsities, self.every = sparsities, every
        self.sparsity = sparsities[-1]
        self._asked = 0

    last = property(lambda self: self.every * len(self.sparsities))

    def event(self, time):
        self._asked += 1
        index, rest = divmod(time, self.every)
        if rest or not 0 < index <= len(self.sparsities):
            return None
        return gpmt.Event(time, self.sparsities[index - 1])
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The module that stands in the document, as a user's, with a second class."""
    [code] = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    path = tmp_path_factory.mktemp("user") / "user_schedules.py"
    path.write_text(dedent(code) + PLAIN)
    spec = importlib.util.spec_from_file_location("user_schedules", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["user_schedules"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["user_schedules"]


@pytest.fixture(params=["Polynomial", "Steps"])
def schedule(written: ModuleType, request: pytest.FixtureRequest) -> gpmt.Schedule:
    found: gpmt.Schedule = (
        written.Polynomial(0.9, end=8, every=3)
        if request.param == "Polynomial"
        else written.Steps([0.5, "3/4", 0.9], every=2)
    )
    return found


def test_these_are_the_steps() -> None:
    assert re.findall(r"^\d+\. \*\*(.+?)\*\*", SECTION, re.MULTILINE) == [
        "Write the class.",
        "Let its attributes say all.",
        "Give it to the Pruner",
        "Test it",
    ]
    for path in re.findall(r"\(\.\./(.+?)\)", SECTION):
        assert (ROOT / path).exists(), path


def test_what_the_document_says_of_its_schedule(written: ModuleType) -> None:
    events = written.Polynomial(0.9, end=200).events()
    assert [event.time for event in events] == list(range(10, 201, 10))
    assert events[-1] == gpmt.Event(200, "90%")
    first, last = (event.sparsity for event in written.Polynomial(0.8, end=4, every=2).events())
    assert (float(first), last) == (pytest.approx(0.6), Fraction(4, 5))
    assert written.Polynomial("0.9", end=4).to_dict() == {
        "kind": "Polynomial",
        "sparsity": "9/10",
        "end": 4,
        "power": 2,
        "every": 10,
        "unit": "step",
    }


def test_it_prunes_as_it_says(toy: Any, schedule: gpmt.Schedule) -> None:
    run = toy.start(schedule)
    wanted = {event.time: event.sparsity for event in schedule.events()}
    for step in range(1, schedule.last + 3):
        run.step()
        if step in wanted:
            assert run.pruner.masks.total_pruned == int(wanted[step] * toy.numel)
    assert run.pruner.masks.total_pruned == 0.9 * toy.numel
    assert run.pruner.finished
    run.assert_zero_where_pruned()


@pytest.mark.parametrize("at", [3, 5, 8])
def test_it_is_saved_and_resumed_exactly(toy: Any, schedule: gpmt.Schedule, at: int, tmp_path: Path) -> None:
    whole = toy.start(schedule).steps(at)
    torch.save(
        [part.state_dict() for part in (whole.model, whole.optimizer, whole.pruner)], tmp_path / "state"
    )
    whole.steps(10 - at)
    resumed = toy.start(copy.deepcopy(schedule), weights=1)
    saved = torch.load(tmp_path / "state", weights_only=True)
    for part, state in zip((resumed.model, resumed.optimizer, resumed.pruner), saved, strict=True):
        part.load_state_dict(state)
    toy.assert_same(whole, resumed.steps(10 - at))


def test_it_is_pickled_with_the_pruner(toy: Any, schedule: gpmt.Schedule) -> None:
    run = toy.start(schedule).steps(3)
    twin = toy.run(*pickle.loads(pickle.dumps((run.model, run.optimizer, run.pruner))))
    assert twin.pruner.schedule.to_dict() == schedule.to_dict()
    toy.assert_same(run.steps(6), twin.steps(6))


def test_other_settings_are_refused_when_resuming(toy: Any, written: ModuleType) -> None:
    state = toy.start(written.Polynomial(0.9, end=8)).pruner.state_dict()
    with pytest.raises(
        MaskError, match=r"'power': 2.*, but this Pruner has .*'power': 3.*; make it with the set"
    ):
        toy.start(written.Polynomial(0.9, end=8, power=3)).pruner.load_state_dict(state)


def test_epochs_work_as_for_the_others(toy: Any, written: ModuleType) -> None:
    class Epochs(written.Polynomial):  # type: ignore[misc, name-defined]
        unit = "epoch"

    run = toy.start(Epochs(0.9, end=2, every=1), steps_per_epoch=3).steps(5)
    assert run.pruner.masks.sparsity == pytest.approx(0.675, abs=1e-3)
    assert run.steps(1).pruner.masks.total_pruned == 0.9 * toy.numel


def test_mistakes_show_before_anything_is_changed(toy: Any, written: ModuleType) -> None:
    model = toy.model()
    for wrong, message in (
        (written.Polynomial(1.5, end=8), r"^sparsity is 1\.5, but must be at least 0 and below 1"),
        (
            written.Polynomial(0.9, end=8.5),
            r"^last is 8\.5, but must be a whole number of steps, at least 0$",
        ),
        (written.Polynomial(0.9, end=0), "^last of Polynomial is 0, but nothing happens at that step"),
        (
            written.Steps([0.5, 1.0, 0.9], 2),
            "^the event of Steps at step 4 is not valid: sparsity is 1.0, but",
        ),
        (
            written.Steps([0.5, 0.99, 0.9], 2),
            r"^sparsity 0\.99 keeps 14 of 1,400 weights, but the minimum of 10 in each of 5 tensors needs 50",
        ),
        (
            written.Steps([0.5, torch.tensor(0.9)], 2),
            "^sparsities of Steps holds a Tensor, which cannot be saved with a run; give numbers, strings, or lists "
            "of them, or call it _sparsities where the other settings determine it$",
        ),
    ):
        with pytest.raises(BudgetError, match=message):
            toy.start(wrong, model=model, min_kept=10)
    assert all(weight.all() for weight in model.parameters() if weight.ndim > 1)
