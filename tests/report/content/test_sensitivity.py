from dataclasses import replace

import pytest

from gpmt.report.content.sensitivity import BlockSensitivity, SensitivityTable

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


def test_costs_are_shares_of_the_worst() -> None:
    assert TABLE.worst == 0.5
    assert TABLE.costs() == [[0.0, 1.0], [0.0, pytest.approx(0.25)]]
    losses = [BlockSensitivity("a", 1, (0.25, 2.5)), BlockSensitivity("b", 1, (0.5, 1.0))]
    table = replace(TABLE, metric="loss", dense=0.5, blocks=losses)
    assert (table.worst, table.costs()) == (2.5, [[0.0, 1.0], [0.0, 0.25]])
    assert replace(TABLE, blocks=[BlockSensitivity("a", 1, (0.9, 0.9))]).costs() == [[0.0, 0.0]]
    assert replace(TABLE, blocks=[BlockSensitivity("a", 1, (0.95, 0.99))]).costs() == [[0.0, 0.0]]
