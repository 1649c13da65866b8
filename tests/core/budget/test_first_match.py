import pytest

from gpmt.core.budget.first_match import Named, first_matches
from gpmt.errors import BudgetError, ScopeError

BLOCKS = [
    Named("attn.in_proj_weight.q", ("attn.in_proj_weight",), "MultiheadAttention"),
    Named("attn.in_proj_weight.k", ("attn.in_proj_weight",), "MultiheadAttention"),
    Named("head.weight", ("head.weight", "tied.weight"), "Linear"),
]


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["*"], [0, 0, 0]),
        ([None], [0, 0, 0]),
        (["*.q", "attn"], [0, 1, None]),
        (["attn.in_proj_weight.k", "attn.*", "*"], [1, 0, 2]),
        (["tied.weight"], [None, None, 0]),
        (["type:Linear", "re:in_proj"], [1, 1, 0]),
        ([], [None, None, None]),
    ],
)
def test_the_first_pattern_that_matches_decides(patterns, found):
    assert first_matches(patterns, BLOCKS, role="sparsity") == found


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [("e[1].up", [1]), ("*[*].up", [0, 1]), ("*[0]*", [0]), ("e", [0, 1]), ("*.up", [0, 1])],
)
def test_brackets_in_the_names_of_blocks_are_brackets(pattern, matched):
    blocks = [Named(f"e[{index}].up", ("e",), "experts") for index in (0, 1)]
    found = first_matches([pattern], blocks, role="sparsity")
    assert [place for place, rule in enumerate(found) if rule == 0] == matched


def test_patterns_that_decide_nothing_are_refused():
    with pytest.raises(BudgetError, match=r"pattern 'hed.weight' of min_kept matches nothing .* head.weight"):
        first_matches(["hed.weight"], BLOCKS, role="min_kept")
    with pytest.raises(
        BudgetError, match=r"'\*.q' of sparsity matches only what belongs to earlier patterns"
    ):
        first_matches(["attn.*", "*.q"], BLOCKS, role="sparsity")
    with pytest.raises(ScopeError, match="not a valid regular expression"):
        first_matches(["re:("], BLOCKS, role="sparsity")
    with pytest.raises(ScopeError, match="sparsity pattern 3 is not valid"):
        first_matches([3], BLOCKS, role="sparsity")
