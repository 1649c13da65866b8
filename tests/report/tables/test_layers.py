from dataclasses import replace

import pytest
from tests.report import examples

from gpmt.errors import FigureError
from gpmt.report.content.report import Report
from gpmt.report.tables.layers import layers_table, layers_tables


def test_counts_and_totals():
    subject = examples.run()
    table = layers_table(subject)
    assert table.heads == ["block", "shape", "weights", "kept", "density", "floor", "MACs"]
    assert table.rows[0] == ["stem.weight", "16×3×3×3", "432", "210", "48.61 %", "60", "13,440"]
    assert [row[3] for row in table.rows] == ["210", "0†", "60*", "61", "60*", "120", "289", "800"]
    assert table.rows[-1] == ["total", "", "8,000", "800", "10.00 %", "", "32,993"]
    assert table.totals
    assert [record["kept"] for record in table.records] == [layer.kept for layer in subject.layers]


def test_columns_that_are_not_known_are_left_out():
    assert layers_table(examples.weights_file()).heads == ["block", "shape", "weights", "kept", "density"]


def test_rows_are_as_wide_as_the_heads():
    for subject in (examples.run(), examples.plan(), examples.weights_file(), examples.many_layers(500)):
        table = layers_table(subject)
        assert {len(row) for row in table.rows} == {len(table.heads)}


def test_titles_tell_runs_apart():
    report = Report("two", subjects=[examples.run(), replace(examples.run(), path="again")])
    assert [table.title for table in layers_tables(report)] == ["runs/gp-mt", "again"]


def test_what_has_no_blocks_says_so():
    with pytest.raises(FigureError, match="runs/compare has no blocks of its own; give a run in it"):
        layers_tables(Report("grid", grids=[examples.comparison()]))
    with pytest.raises(FigureError, match="has no blocks to tell of; layers: the run has not finished"):
        layers_table(examples.unfinished_run())
