from gpmt.report.tables.table import Table


def test_only_the_texts_are_needed():
    table = Table("blocks", ["block", "kept"], [["a", "1"]])
    assert (table.bold, table.totals, table.notes, table.records) == (frozenset(), False, (), ())
