from gpmt.demo import Comparison, Level, Outcome
from gpmt.demo_report import demo_report
from gpmt.report.content.subject import Layer
from gpmt.report.page.grid_summary import verdict
from gpmt.report.page.summary import verdict as verdict_of
from gpmt.report.page.write import page


def outcome(accuracy: float, *, min_kept: int = 0, kept: int = 3) -> Outcome:
    layers = (Layer("a", "a", "Conv2d", (100,), 100, 97), Layer("b", "b", "Conv2d", (900,), 900, kept))
    return Outcome(min_kept, 97 + kept, int(not kept), "b", kept, 900, 0.1, accuracy, layers)


def comparison() -> Comparison:
    levels = (
        Level(0.8, outcome(0.98), outcome(0.98, min_kept=20)),
        Level(0.9, outcome(0.1, kept=0), outcome(0.96, min_kept=20, kept=20)),
    )
    return Comparison(0, 1000, 2, {"train": 10, "test": 5}, {"dense": 10, "finetune": 5}, 0.99, levels, 1.0)


def test_the_collapse_and_the_rescue_are_what_a_reader_sees_first():
    report = demo_report(comparison())
    assert verdict(report.grids[0]).headline == "Collapse, and rescue by floors"
    assert [subject.title for subject in report.subjects] == ["GP at 90 %", "GP+MT at 90 %"]
    assert [verdict_of(subject).headline for subject in report.subjects] == ["Collapsed", "Works"]
    text = page(report)
    assert text.index("Collapse, and rescue by floors") < text.index('id="density"')


def test_every_outcome_is_a_cell():
    cells = demo_report(comparison()).grids[0].cells
    assert [(cell.label, cell.asked) for cell in cells] == [
        ("GP", 0.8),
        ("GP + 20", 0.8),
        ("GP", 0.9),
        ("GP + 20", 0.9),
    ]
    assert [cell.fewest for cell in cells] == [3, 3, 0, 20]
