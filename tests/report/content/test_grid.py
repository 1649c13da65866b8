from gpmt.report.content.grid import Cell, Grid


def test_the_label_of_a_curve():
    assert Cell("GP", "", "", 0.9, (0,)).label == "GP"
    assert Cell("GP", "auto", "", 0.9, (0,)).label == "GP + auto"
    assert Cell("GP", "", "lr=0.1", 0.9, (0,)).label == "GP (lr=0.1)"


def test_a_grid_whose_other_runs_failed_is_over():
    cells = [Cell("GP", "", "", 0.9, (0,), lost=("seed 1 diverged", "seed 2 is to do"))]
    assert Grid("sweep", "a sweep", "sweeps/a", cells, finished=1, total=3).goes_on
    assert not Grid("sweep", "a sweep", "sweeps/a", cells, finished=2, total=3).goes_on
    assert not Grid("sweep", "a sweep", "sweeps/a", finished=3, total=3).goes_on
