from pathlib import Path

import torch
from tests.training.run.runs import PLAIN_NETWORK, short_recipe, weights

from gpmt.training.run.run import run


def test_accumulating_gradients_changes_the_sums_alone(tmp_path: Path):
    """Without batch norms, parts of a batch give the gradient of the whole."""
    common = (PLAIN_NETWORK, "dense.epochs=1", "finetune.epochs=0")
    run(short_recipe(*common), tmp_path / "whole")
    run(short_recipe(*common, "dense.accumulate=4"), tmp_path / "parts")
    whole, parts = (weights(tmp_path / name / "dense.pt") for name in ("whole", "parts"))
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=1e-4, atol=1e-5)
