from tests.report import examples

from gpmt.report.page.provenance import made_with, recipe_table, settings


def test_every_setting_has_its_whole_name():
    rows = dict(settings(examples.run().recipe))
    assert rows["prune.sparsity"] == "0.9"
    assert rows["data.train_limit"] == "none"
    assert rows["data.mean"] == "[0.1, 0.2]"
    assert dict(settings({"a": {"b": True, "c": {}}})) == {"a.b": "true", "a.c": "{}"}


def test_nothing_known_no_table():
    assert recipe_table({}) is None
    assert made_with({}, {}) is None
    assert ["threads", "2"] in made_with(examples.VERSIONS, examples.MACHINE).rows
