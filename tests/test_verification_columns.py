"""Verification of networks whose columns were pruned."""

import pytest
import torch

import gpmt
from gpmt.errors import BudgetError, ScopeError
from gpmt.masks import Masks
from gpmt.verification import Verification, verify


def message(result: Verification, name: str) -> str:
    return next(check.message for check in result.checks if check.name == name)


def state() -> dict[str, torch.Tensor]:
    """5 of 9 columns are zero: 1 of 3 in a, 4 of 6 in b, which has a zero in a live column too."""
    a, b = torch.ones(4, 3), torch.ones(2, 6)
    a[:, 1] = 0
    b[:, 2:] = -0.0
    b[0, 0] = 0
    return {"a.weight": a, "b.weight": b}


def test_totals_and_floors_count_columns() -> None:
    result = verify(state(), sparsity="5/9", min_kept=2, granularity="column")
    assert result
    assert (result.numel, result.kept, result.pruned) == (9, 4, 5)
    assert [(row.numel, row.kept) for row in result.tensors] == [(3, 2), (6, 2)]
    assert message(result, "total") == "5 of 9 columns are pruned, as asked for"
    assert message(result, "minimum") == "every tensor keeps at least 2 columns, or all it has"
    assert str(result).endswith("ok: 5 of 9 columns are zero")
    values = result.to_dict()
    assert (values["granularity"], values["columns"], values["tensors"][1]["columns"]) == ("column", 9, 6)


def test_one_weight_brings_a_column_back() -> None:
    revived = state()
    revived["b.weight"][1, 5] = float("nan")
    result = verify(revived, sparsity="5/9", granularity="column")
    assert not result
    assert message(result, "total") == "4 of 9 columns are pruned, 1 too few for the 5 asked for"
    assert message(result, "finite") == "NaN or infinite weights in b.weight (1)"
    assert message(verify(revived, sparsity="5/9", granularity="column", tolerance=1), "total").endswith(
        "within 1"
    )


def test_floors_that_are_not_kept_are_named() -> None:
    low = verify(state(), min_kept=3, granularity="column")
    assert not low
    expected = "fewer columns are kept than the minimum in a.weight (2 of 3), b.weight (2 of 3)"
    assert message(low, "minimum") == expected
    percent = verify(state(), min_kept="34%", granularity="column")  # 3 of the 9 columns
    assert message(percent, "minimum") == expected


def test_masks_take_the_place_of_zero_columns() -> None:
    masks = Masks.from_dense({"b.weight": (torch.arange(6) < 3).expand(2, 6)})
    result = verify(state(), masks=masks, sparsity=0.5, min_kept=3, granularity="column")
    assert result
    assert (
        message(result, "masks")
        == "all 3 columns that the masks prune are zero; 1 that they keep are zero too"
    )
    assert [(row.kept, row.kept_by_mask) for row in result.tensors] == [(2, 3)]
    both = verify(state(), masks=masks, scope=["a", "b"], granularity="column")
    assert [row.kept_by_mask for row in both.tensors] == [3, 3]
    revived = state()
    revived["b.weight"][1, 3:5] = 1e-30
    assert message(verify(revived, masks=masks, granularity="column"), "masks") == (
        "weights that the masks prune are not zero in b.weight (2)"
    )


def test_what_gpmt_prunes_passes_and_single_weights_do_not() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(40, 10)
    gpmt.prune_(model, sparsity=0.9, granularity="column")
    assert verify(model, sparsity=0.9, granularity="column")
    assert verify(model, sparsity=0.9)  # columns of one matrix are equally long
    weights = torch.nn.Linear(40, 10)
    gpmt.prune_(weights, sparsity=0.9)
    assert not verify(weights, sparsity=0.9, granularity="column")


def test_bad_requests() -> None:
    with pytest.raises(BudgetError, match="granularity is 'columns', but must be one of weight, row"):
        verify(state(), granularity="columns")  # type: ignore[arg-type]
    with pytest.raises(BudgetError, match="tolerance is -1, but must be a whole number of columns"):
        verify(state(), granularity="column", tolerance=-1)
    with pytest.raises(ScopeError, match=r"conv\.weight has 4 dimensions, but whole columns"):
        verify({"conv.weight": torch.ones(2, 2, 3, 3)}, granularity="column")
