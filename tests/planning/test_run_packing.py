import numpy as np
import pytest
import torch

from gpmt.core.keys.keys import KEY32, MagnitudeKeys
from gpmt.errors import WeightsError
from gpmt.planning.run_packing import RunPacker


def test_every_run_keeps_its_largest_unless_weights_have_changed():
    weight = torch.tensor([[1.0, -3.0, 2.0], [0.5, 0.5, 0.0]])
    packer = RunPacker({"a": weight}, [MagnitudeKeys("a", weight, KEY32)], KEY32, lengths=[3], kept=[1])
    assert np.unpackbits(packer.pack()["a"].numpy(), bitorder="little")[:6].tolist() == [0, 1, 0, 1, 0, 0]
    assert not packer.lies_in([weight])
    weight.mul_(2)
    with pytest.raises(
        WeightsError, match="the weights of a have changed since they were planned; plan again"
    ):
        packer.pack()
