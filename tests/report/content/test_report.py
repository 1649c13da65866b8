from gpmt.report.content.report import Report


def test_a_report_may_be_empty():
    assert Report("nothing").subjects == ()
