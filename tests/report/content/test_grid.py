from gpmt.report.content.grid import Cell


def test_the_label_of_a_curve():
    assert Cell("GP", "", "", 0.9, (0,)).label == "GP"
    assert Cell("GP", "auto", "", 0.9, (0,)).label == "GP + auto"
    assert Cell("GP", "", "lr=0.1", 0.9, (0,)).label == "GP (lr=0.1)"
