from dataclasses import replace

import pytest
from tests.report import examples

from gpmt.errors import FigureError
from gpmt.report.figures.choice import chosen, distinct_titles, why


def test_many_names_are_not_all_told():
    parts = {f"layer{number}": number for number in range(1000)}
    assert chosen(parts, "layer7", "a.pt") == 7
    with pytest.raises(FigureError, match=r"^a.pt has no quite other to draw; it has layer0 and more$"):
        chosen(parts, "quite other", "a.pt")


def test_the_reason_is_that_of_the_content():
    assert why(examples.unfinished_run(), "layers").startswith("layers: the run has not finished")
    assert why(examples.run(), "layers") == "give the folder of a run that is finished"


def test_paths_tell_runs_of_one_title_apart():
    subjects = [examples.run(), replace(examples.run(), path="other")]
    assert distinct_titles(subjects) == ["runs/gp-mt", "other"]
    assert distinct_titles(subjects[:1]) == [examples.run().title]
