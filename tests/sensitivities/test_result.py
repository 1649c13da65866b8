from tests.sensitivities.examples import example

TABLE = """\
block     weights    50%    90%
a.weight       20  50.0%  25.0%
b.weight       40  87.5%  75.0%
top-1 on 40 samples with one block pruned; 90.0% dense, batch normalisation recalibrated"""


def test_the_table() -> None:
    assert str(example()) == TABLE
    assert example().table("loss")[1:] == [
        ["a.weight", "20", "1.500", "4.000"],
        ["b.weight", "40", "0.750", "1.000"],
    ]
    part = example(curves=example().curves[:1], recalibrated=False)
    assert part.summary("loss") == (
        "loss on 40 samples with one block pruned; 0.500 dense; 1 of 2 blocks still to be measured"
    )
    assert (example().complete, part.complete) == (True, False)
