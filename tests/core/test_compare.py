import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpmt.core.compare import compare

values = st.sampled_from([0.0, -0.0, 1.0, -2.5, math.nan, math.inf])


@given(st.lists(st.tuples(values, values), min_size=1, max_size=20), st.integers(1, 7))
def test_counts_agree_with_a_plain_loop(pairs: list[tuple[float, float]], chunk: int) -> None:
    a, b = (torch.tensor(side, dtype=torch.float32) for side in zip(*pairs, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpmt.core.compare.CHUNK", chunk)
        result = compare({"x": a}, {"x": b})
    (row,) = result.tensors
    changed = [(x, y) for x, y in pairs if x != y and not (math.isnan(x) and math.isnan(y))]
    assert row.changed == len(changed)
    assert row.zeros_only_a == sum(x == 0 and y != 0 for x, y in pairs)
    assert row.zeros_only_b == sum(x != 0 and y == 0 for x, y in pairs)
    assert row.zeros_both == sum(x == 0 == y for x, y in pairs)
    apart = [abs(x - y) for x, y in changed]
    assert row.largest == (max(apart, default=0.0) if np.isfinite(apart).all() else None)
    assert result.equal == (not changed)


def test_names_shapes_and_types() -> None:
    a = {"same": torch.ones(2), "gone": torch.ones(1), "shape": torch.ones(2, 3), "type": torch.ones(2)}
    b = {"type": torch.ones(2).half(), "shape": torch.ones(3, 2), "same": torch.ones(2), "new": torch.ones(1)}
    result = compare(a, b)
    assert not result.equal
    assert (result.only_a, result.only_b) == (["gone"], ["new"])
    assert result.unlike == {
        "shape": ("[2, 3] float32", "[3, 2] float32"),
        "type": ("[2] float32", "[2] float16"),
    }
    assert [(row.name, row.changed) for row in result.tensors] == [("same", 0), ("type", 0)]


def test_every_type_can_be_compared() -> None:
    tensors = [
        torch.tensor([True, False]),
        torch.tensor([1, 2]),
        torch.tensor([1, 255], dtype=torch.uint8),
        torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
        torch.tensor([1 + 2j, 0]),
        torch.tensor(3.5),
        torch.empty(0, 3),
    ]
    state = {str(i): tensor for i, tensor in enumerate(tensors)}
    result = compare(state, {name: tensor.clone() for name, tensor in state.items()})
    assert result.equal
    assert compare({"x": tensors[0]}, {"x": ~tensors[0]}).tensors[0].changed == 2
    assert compare({"x": tensors[2]}, {"x": tensors[2].flip(0)}).tensors[0].largest == 254
