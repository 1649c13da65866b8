import torch
from hypothesis import given
from hypothesis import strategies as st

from gpmt.training.data.sampling import balanced_subset, shares


def test_a_batch_that_gives_each_process_one_sample_is_left_out():
    assert shares(12, 2, rank=0, processes=2) == []


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), data=st.data())
def test_a_balanced_subset_is_as_even_as_the_classes_allow(sizes, data):
    labels = torch.tensor([label for label, size in enumerate(sizes) for _ in range(size)], dtype=torch.int64)
    count = data.draw(st.integers(0, len(labels)))
    chosen = balanced_subset(labels, count)
    assert len(chosen.unique()) == count
    assert torch.equal(chosen, chosen.sort().values)
    assert torch.equal(chosen, balanced_subset(labels, count))
    taken = torch.bincount(labels[chosen], minlength=len(sizes)).tolist()
    left_over = [own for own, size in zip(taken, sizes, strict=True) if own < size]
    assert not left_over or max(taken) - min(left_over) <= 1
