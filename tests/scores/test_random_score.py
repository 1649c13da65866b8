import pytest
import torch
from torch import nn

import gpmt
from gpmt.errors import WeightsError
from tests.calibration.networks import CASES, make


@pytest.mark.parametrize("name", CASES)
def test_it_ranks_as_the_allocation_of_this_name(name: str) -> None:
    model, _ = make(name)
    scores = gpmt.scores.random(model, seed=5)
    masks = gpmt.plan(model, sparsity=0.6, allocation="random", seed=5).masks()
    kept = torch.cat([scores[tensor][masks[tensor]] for tensor in scores])
    pruned = torch.cat([scores[tensor][~masks[tensor]] for tensor in scores])
    assert kept.min() > pruned.max()


def test_it_depends_on_seed_and_place_alone() -> None:
    torch.manual_seed(1)
    first = gpmt.scores.random({"a.weight": torch.ones(300, 500)}, seed=1)["a.weight"]
    before = torch.get_rng_state()
    again = gpmt.scores.random({"b.weight": torch.zeros(300, 500).half().T}, seed=1)["b.weight"]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.flatten(), again.flatten())
    assert len(first.unique()) > 149_900  # of 150,000, some in another chunk
    assert not torch.equal(first, gpmt.scores.random({"a.weight": torch.ones(300, 500)}, seed=2)["a.weight"])
    assert first.dtype == torch.float64


def test_it_is_uniform() -> None:
    scores = gpmt.scores.random(nn.Linear(200, 100), scope="weight")["weight"]
    counts = torch.histc(scores, 10, 0, 1)
    assert ((counts - 2000).abs() < 5 * 2000**0.5).all()


def test_weights_without_data_are_refused() -> None:
    with pytest.raises(WeightsError, match="weight has no data"):
        gpmt.scores.random(nn.Linear(2, 2, device="meta"))
