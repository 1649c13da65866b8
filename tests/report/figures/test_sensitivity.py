from dataclasses import replace

import pytest

from gpmt.errors import FigureError
from gpmt.report.content.sensitivity import BlockSensitivity, SensitivityTable
from gpmt.report.figures.sensitivity import sensitivity_figure, shown

pytest.importorskip("matplotlib", reason="gpmt[report] is not installed")

TABLE = SensitivityTable(
    "top1",
    0.9,
    (0.5, 0.99),
    256,
    [
        BlockSensitivity("conv.weight", 10, (0.9, 0.5), 0.25),
        BlockSensitivity("fc.weight", 20, (0.95, 0.8), 0.01),
    ],
)


def test_numbers_are_short() -> None:
    losses = replace(TABLE, metric="loss")
    assert [shown(value, TABLE) for value in (0.0, 0.876, 0.9996)] == ["0.0", "87.6", "100"]
    assert [shown(value, losses) for value in (0.5, 12.34, 1234.5)] == ["0.50", "12.3", "1.23e+03"]


def test_the_fields_and_the_bars() -> None:
    figure = sensitivity_figure(TABLE, title="ours")
    fields, bars = figure.axes
    [mesh] = fields.collections
    assert mesh.get_array().tolist() == [[0.0, 1.0], [0.0, pytest.approx(0.5)]]
    assert [text.get_text() for text in fields.texts] == ["90.0", "50.0", "95.0", "80.0"]
    assert [text.get_position() for text in fields.texts] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert [label.get_text() for label in fields.get_yticklabels()] == ["conv.weight", "fc.weight"]
    assert [label.get_text() for label in fields.get_xticklabels()] == ["50", "99"]
    assert fields.get_title(loc="left") == "top-1 (%), dense 90.0, darkest 50.0"
    assert [bar.get_width() for bar in bars.patches] == [0.25, 0.01]
    assert figure.rendered("svg") == sensitivity_figure(TABLE, title="ours").rendered("svg")


def test_many_blocks_have_the_names_of_their_groups() -> None:
    blocks = [
        BlockSensitivity(f"layers.{i // 4}.fc{i % 4}.weight", 9, (0.9, 0.1 + i / 200)) for i in range(100)
    ]
    [axes] = sensitivity_figure(replace(TABLE, blocks=blocks), width="page").axes
    assert not axes.texts
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert (names[0], names[-1], len(names)) == ("layers.0", "layers.24", 25)


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(FigureError, match=r"^no block is measured yet"):
        sensitivity_figure(replace(TABLE, blocks=[]))
