import pytest
from tests.sensitivities.examples import example, weights

from gpmt.report.content.sensitivity import BlockSensitivity, SensitivityTable
from gpmt.sensitivities.drawing import table_of


def test_what_is_drawn() -> None:
    found = example()
    expected = [
        BlockSensitivity("a.weight", 20, (0.5, 0.25)),
        BlockSensitivity("b.weight", 40, (0.875, 0.75)),
    ]
    assert table_of(found, "top1", None) == SensitivityTable("top1", 0.9, (0.5, 0.9), 40, expected)
    table = table_of(found, "loss", found.suggest(weights(), 0.7))
    assert (table.dense, [block.values for block in table.blocks]) == (0.5, [(1.5, 4.0), (0.75, 1.0)])
    assert [block.density for block in table.blocks] == [0.7, 0.1]


def test_the_figure() -> None:
    pytest.importorskip("matplotlib", reason="gpmt[report] is not installed")
    [axes] = example().figure("loss", width=12).axes
    assert axes.get_title(loc="left") == "loss, dense 0.50, darkest 4.00"
