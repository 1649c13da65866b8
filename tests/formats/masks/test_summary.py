import torch

from gpmt.formats.masks.summary import summary
from gpmt.masks import Masks


def test_it_is_what_masks_say_of_themselves():
    masks = Masks.from_dense(
        {"a": torch.tensor([[True, False, False]]), "b": torch.ones(1, dtype=torch.bool)}
    )
    assert summary(2, 2, 4) == repr(masks) == "Masks(2 tensors, 2 of 4 weights kept, sparsity 50.0000%)"


def test_no_masks_have_no_sparsity():
    assert (
        summary(0, 0, 0)
        == repr(Masks.from_dense({}))
        == "Masks(0 tensors, 0 of 0 weights kept, sparsity 0.0000%)"
    )
