from pathlib import Path

import pytest
from tests.training.run.runs import same_weights, short_recipe

from gpmt.training.run.run import Stopped, run


def test_a_budget_of_epochs_or_minutes_stops_the_run_which_then_goes_on(dense: Path, tmp_path: Path):
    with pytest.raises(Stopped, match=r"^after 1 epoch, in epoch 1 of 2 of dense$"):
        run(short_recipe(), tmp_path / "run", max_epochs=1)
    with pytest.raises(Stopped, match=r"^after 0 minutes, in epoch 2 of 2 of dense$"):
        run(short_recipe(), tmp_path / "run", resume=True, max_minutes=0)
    run(short_recipe(), tmp_path / "run", resume=True)
    assert same_weights(tmp_path / "run/model.pt", dense / "model.pt")
