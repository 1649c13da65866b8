import math

import pytest

from gpmt.training.recipes.schema import Training


def test_learning_rate_warms_up_and_falls_like_half_a_cosine():
    settings = Training(epochs=10, lr=0.4, warmup_epochs=4)
    rates = [settings.learning_rate(epoch) for epoch in range(10)]
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[4:] == pytest.approx([0.2 * (1 + math.cos(math.pi * step / 6)) for step in range(6)])
