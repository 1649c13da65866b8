from tests.report import examples

from gpmt.report.content.report import Report
from gpmt.report.page.sections import sections

ORDER = ["density", "histograms", "channels", "curves", "side-by-side", "accuracy", "recipe"]


def ids(report: Report) -> list[str]:
    return [section.id for section in sections(report)]


def test_the_order():
    assert ids(examples.report()) == ORDER


def test_sections_without_content_are_left_out():
    assert ids(Report("one", [examples.run()])) == [
        one for one in ORDER if one not in ("side-by-side", "accuracy")
    ]
    assert ids(Report("grid", [], [examples.comparison()])) == ["accuracy", "recipe"]
    assert ids(Report("nothing")) == []


def test_several_have_headings_and_one_has_none():
    assert sections(Report("one", [examples.run()]))[0].blocks[0].heading == ""
    headings = [block.heading for block in sections(examples.report())[0].blocks]
    assert headings == [one.title for one in examples.report().subjects if one.layers]
