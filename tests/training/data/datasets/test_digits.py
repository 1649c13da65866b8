import hashlib

import torch

from gpmt.training.data import datasets


def test_digits_have_a_fixed_split_with_every_class_in_the_same_shares():
    source = datasets.load("digits", root=None)
    assert (source.train_size, source.test_size, source.input_shape) == (1442, 355, (1, 8, 8))
    shares = torch.bincount(source.test.labels) / torch.bincount(
        torch.cat([source.train.labels, source.test.labels])
    )
    assert (shares - 0.2).abs().max() < 0.006
    assert source.train.samples.max() == 255
    # The split must never change: results are compared across versions.
    digest = hashlib.sha256(source.test.samples.numpy().tobytes()).hexdigest()
    assert digest.startswith("4789a1d86a4f4342")


def test_default_normalisation_gives_zero_mean_and_unit_variance():
    source = datasets.load("digits", root=None)
    pixels = torch.cat([images for images, _ in source.train_batches(100, seed=(0,))])
    assert abs(pixels.mean()) < 0.01
    assert abs(pixels.std() - 1) < 0.01
