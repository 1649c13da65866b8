"""Tensors without data are refused by name wherever data is needed, before anything is changed or written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gpmt
from gpmt.errors import CheckpointError, GpmtError, MaskError, WeightsError
from gpmt.formats.checkpoint import save_checkpoint
from gpmt.formats.torch_sparse import to_csr

SENTENCE = r"has no data \(it is on the meta device\); load its weights, or end their offloading, first$"


def network(device: str = "meta") -> nn.Module:
    with torch.device(device):
        return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))


def masks() -> gpmt.Masks:
    return gpmt.plan(network("cpu"), sparsity=0.5).masks()


USES: dict[str, tuple[Callable[[Path], Any], type[GpmtError]]] = {
    "plan": (lambda folder: gpmt.plan(network(), sparsity=0.5), WeightsError),
    "columns": (lambda folder: gpmt.plan(network(), sparsity=0.5, granularity="column"), WeightsError),
    "random": (lambda folder: gpmt.plan(network(), sparsity=0.5, allocation="random"), WeightsError),
    "apply": (lambda folder: masks().apply_(network()), WeightsError),
    "verify": (lambda folder: gpmt.verify(network()), WeightsError),
    "sparse rows": (lambda folder: to_csr(network().state_dict()), WeightsError),
    "sparse file": (
        lambda folder: gpmt.save_sparse(network(), folder / "a.sparse.safetensors"),
        CheckpointError,
    ),
    "torch": (lambda folder: save_checkpoint(folder / "a.pt", network().state_dict()), CheckpointError),
    "safetensors": (
        lambda folder: save_checkpoint(folder / "a.safetensors", network().state_dict()),
        CheckpointError,
    ),
}


@pytest.mark.parametrize("use", USES)
def test_the_meta_device(tmp_path: Path, use: str) -> None:
    function, error = USES[use]
    with pytest.raises(error, match=rf"^0\.weight {SENTENCE}"):
        function(tmp_path)
    assert not list(tmp_path.iterdir())


def test_masks_themselves() -> None:
    mask = torch.ones(3, dtype=torch.bool, device="meta")
    with pytest.raises(MaskError, match=rf"^w {SENTENCE}"):
        gpmt.Masks.from_dense({"w": mask})


def test_nothing_is_changed_where_one_tensor_has_no_data() -> None:
    state = network("cpu").state_dict()
    state["1.weight"] = state["1.weight"].to("meta")
    before = state["0.weight"].clone()
    with pytest.raises(WeightsError, match=rf"^1\.weight {SENTENCE}"):
        masks().apply_(state)
    assert torch.equal(state["0.weight"], before)


def test_weights_that_accelerate_has_offloaded() -> None:
    from accelerate import cpu_offload
    from accelerate.hooks import remove_hook_from_submodules

    model = cpu_offload(network("cpu"), execution_device=torch.device("cpu"))
    with pytest.raises(WeightsError, match=rf"^0\.weight {SENTENCE}"):
        masks().apply_(model)
    remove_hook_from_submodules(model)
    masks().apply_(model)
    assert gpmt.verify(model, sparsity=0.5)
