import json
from pathlib import Path

import pytest
import torch
from tests.report.folders import Network

import gpmt
from gpmt.errors import ReportError
from gpmt.report.content.documents import read_document
from gpmt.report.content.plan_file import is_plan, read_plan


def planned(**options: object) -> gpmt.Plan:
    torch.manual_seed(0)
    return gpmt.plan(Network(), **({"sparsity": 0.9, "min_kept": 20} | options))  # type: ignore[arg-type]


def read(path: Path):
    document = read_document(path, "")
    assert is_plan(document)
    return read_plan(path, document)


def test_a_plan_is_told_as_it_was_made(tmp_path: Path):
    plan, path = planned(), tmp_path / "plan.json"
    plan.save(path)
    subject = read(path)
    assert (subject.kind, subject.title, subject.asked, subject.minimum) == (
        "plan",
        "plan.json",
        "90 %",
        "20",
    )
    assert (subject.numel, subject.kept) == (plan.numel, plan.kept)
    assert [(one.name, one.numel, one.kept, one.floor, one.binds) for one in subject.layers] == [
        (block.name, block.numel, block.kept, block.floor, block.binds) for block in plan.blocks
    ]
    assert subject.layers[1].tensor == "attention.in_proj_weight"
    assert subject.thresholds == {"": plan.threshold}
    assert subject.scope.endswith("judged by the layers of Network")
    assert subject.recipe["allocation"] == "exact"
    assert any(text.startswith("multiply-accumulates: they need the network; ") for text in subject.missing)


def test_the_output_of_the_command_is_told_with_its_macs(tmp_path: Path):
    plan, path = planned(), tmp_path / "told.json"
    macs = {row.name: 10 * row.numel for row in plan.tensors}
    path.write_text(json.dumps({"input": "x.pt", **plan.to_dict(), "dense_macs": macs}))
    subject = read(path)
    assert subject.macs_dense == 10 * plan.numel
    assert subject.macs_sparse == 10 * plan.kept
    assert subject.layers[0].macs_dense == 2160
    assert subject.macs_rule


def test_groups_have_thresholds_and_sparsities_of_their_own(tmp_path: Path):
    plan, path = planned(sparsity={"attention.*": 0.8, "*": 0.9}, min_kept=10), tmp_path / "plan.json"
    plan.save(path)
    subject = read(path)
    assert subject.asked == "* 90 %, attention.* 80 %"
    assert set(subject.thresholds) == {"attention.*", "*"}
    assert [layer.group for layer in subject.layers] == ["*", *["attention.*"] * 4, "*"]
    path.write_text(json.dumps(plan.to_dict()))
    assert [layer.group for layer in read(path).layers] == ["*", *["attention.*"] * 4, "*"]


def test_tensors_and_units_may_be_what_is_counted(tmp_path: Path):
    path = tmp_path / "plan.json"
    planned(within="tensor", min_kept=0).save(path)
    subject = read(path)
    assert subject.asked == "90 % of every tensor"
    assert {layer.group for layer in subject.layers} == {layer.tensor for layer in subject.layers}
    plan = planned(granularity="row", min_kept=0, sparsity=0.5)
    plan.save(path)
    subject = read(path)
    assert (subject.unit, subject.numel, subject.kept) == ("rows", plan.numel, plan.kept)
    plan = planned(pattern="2:4", sparsity=None, min_kept=0, exclude="conv.weight")
    plan.save(path)
    assert read(path).asked == "2:4"


def test_dead_layers_are_warnings(tmp_path: Path):
    path = tmp_path / "plan.json"
    with pytest.warns(gpmt.warning.GpmtWarning):
        planned(sparsity=0.98, min_kept=0).save(path)
    subject = read(path)
    assert subject.dead
    assert "keep none of their weights" in subject.warnings[0]


def test_a_plan_without_tensors_is_refused(tmp_path: Path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"achieved_sparsity": 0.9, "tensors": []}))
    with pytest.raises(ReportError, match=r"plan.json is a plan without tensors; gpmt plan FILE"):
        read(path)
