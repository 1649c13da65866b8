import json
from dataclasses import replace

from tests.report import examples

from gpmt.report.content.report import Report


def test_a_report_may_be_empty():
    assert Report("nothing").subjects == ()


def test_a_report_as_json_has_everything():
    report = examples.report()
    document = json.loads(json.dumps(report.to_dict()))
    assert document["title"] == "Runs <of> digits"
    assert document["problems"] == list(report.problems)
    run, *_ = document["subjects"]
    assert run["layers"][-1]["name"] == examples.MARKUP
    assert run["layers"][-1]["shape"] == [10, 256]
    assert run["histograms"][0]["edges"] == list(examples.EDGES)
    assert run["recipe"] == report.subjects[0].recipe
    assert run["sizes"] == {"dense": 32_800, "gzip": 9_120, "sparse": 4_210}
    assert document["grids"][0]["cells"][0]["finetuned"]["mean"] == report.grids[0].cells[0].finetuned.mean


def test_numbers_that_json_lacks_are_null():
    run = replace(examples.run(), seconds={"dense": float("nan"), "finetune": float("inf")})
    document = Report("diverged", [run]).to_dict()
    assert document["subjects"][0]["seconds"] == {"dense": None, "finetune": None}
