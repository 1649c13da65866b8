from gpmt.core.layers.reach import Reach


def test_reaches_are_ordered_from_a_broad_pattern_to_none_at_all():
    assert sorted(Reach) == [Reach.NONE, Reach.BROAD, Reach.LAYER, Reach.TENSOR, Reach.NEVER]
