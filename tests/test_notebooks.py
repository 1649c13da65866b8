"""What notebooks show of masks, verifications, scopes, what-if tables, programs and the demonstration."""

import torch
from torch import nn

import gpmt
from tests.html_reader import HtmlReader


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10)).eval()


def test_masks():
    masks = gpmt.plan(network(), sparsity=0.5).masks()
    rows = HtmlReader(masks._repr_html_()).rows
    assert [row[0] for row in rows] == ["tensor", "0.weight", "3.weight", "total"]
    assert [row[3].replace(",", "") for row in rows[1:]] == [
        str(masks.kept("0.weight")), str(masks.kept("3.weight")), str(masks.total_kept),
    ]  # fmt: skip


def test_no_masks():
    assert "masks of 0 tensors" in gpmt.Masks({}, {})._repr_html_()


def test_verification():
    model = network()
    gpmt.prune_(model, sparsity=0.5)
    good, bad = gpmt.verify(model, sparsity=0.5), gpmt.verify(model, sparsity=0.9)
    assert [row[:2] for row in HtmlReader(good._repr_html_()).rows[1:]] == [
        [check.status, check.name] for check in good.checks
    ]
    assert "FAILED" not in good._repr_html_()
    assert "FAILED" in bad._repr_html_()


def test_scope():
    rows = HtmlReader(gpmt.find_scope(network())._repr_html_()).rows
    assert rows[1:] == [
        ["0.weight", "Conv2d", "4×1×3×3", "36"],
        ["3.weight", "Linear", "10×64", "640"],
        ["total", "", "", "676"],
    ]


def test_what_if():
    table = gpmt.what_if(network(), [0.5, 0.9], macs=torch.ones(1, 1, 6, 6))
    rows = HtmlReader(table._repr_html_()).rows
    assert "MACs left" in rows[0]
    assert [row[:2] for row in rows[1:]] == [["50 %", "338"], ["90 %", "68"]]
    assert {len(row) for row in rows} == {len(rows[0])}


def test_program():
    model = network()
    gpmt.prune_(model, sparsity=0.5)
    fast = gpmt.compile(model, torch.ones(1, 1, 6, 6), threads=1, tune=False)
    html = fast._repr_html_()
    rows = HtmlReader(html).rows
    assert {"0.weight", "3.weight"} <= {row[1] for row in rows}
    assert "Program:" in html


def test_the_demonstration():
    from gpmt.demo import Comparison, Level, Outcome

    lost = Outcome(0, 10, 2, "a", 0, 5, 0.1, 0.1)
    rescued = Outcome(5, 10, 0, "a", 5, 5, 0.1, 0.9)
    images, epochs = {"train": 10, "test": 10}, {"dense": 1, "finetune": 1}
    comparison = Comparison(0, 100, 3, images, epochs, 0.95, (Level(0.9, lost, rescued),), 1.0)
    assert HtmlReader(comparison._repr_html_()).rows[1:] == [
        ["90 %", "GP", "10", "2", "10 %", "10 %"],
        ["90 %", "GP+MT", "10", "0", "10 %", "90 %"],
    ]
