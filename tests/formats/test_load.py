"""`gpmt.load`: the files of every tool come out as plain weights and masks, or as one sentence."""

import pytest
import torch
from tests.formats.checkpoints import FIXTURES
from torch import nn
from torch.nn.utils import prune

import gpmt
from gpmt.errors import CheckpointError, GpmtError, MaskError
from gpmt.formats.checkpoint import save_checkpoint
from gpmt.masks import Masks


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 10))


@pytest.mark.parametrize(
    ("name", "source", "masks"),
    [
        ("fasterai.pt", "fasterai", True),
        ("lightning_prune.pt", "Lightning with torch.nn.utils.prune", True),
        ("nncf2.pt", "NNCF", True),
        ("nncf3.pt", "NNCF", True),
        ("sparseml.pt", "SparseML", True),
        ("compressed_tensors/bitmask", "compressed-tensors", True),
        ("exported.onnx", "ONNX", False),
    ],
)
def test_the_files_of_other_tools_are_told_apart(name, source, masks):
    if name.endswith(".onnx"):
        pytest.importorskip("onnx", reason="reading ONNX needs onnx")
    loaded = gpmt.load(FIXTURES / name)
    assert loaded.source == source
    assert (loaded.masks is not None) == masks
    assert not any(key.endswith(("_orig", "_mask", ".bitmask")) for key in loaded.state_dict)
    for key in loaded.masks or ():
        assert torch.equal(
            loaded.state_dict[key].where(~loaded.masks[key], 0), torch.zeros_like(loaded.state_dict[key])
        )


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".sparse.safetensors"])
def test_files_of_gpmt(tmp_path, suffix):
    model = network()
    plan = gpmt.prune_(model, sparsity=0.9, min_kept=5)
    path = tmp_path / f"model{suffix}"
    save_checkpoint(path, model.state_dict())
    loaded = gpmt.load(path)
    assert list(loaded.state_dict) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict[name], tensor)
    assert gpmt.verify(path, sparsity=0.9, min_kept=5)
    assert plan.masks() == Masks.from_dense({name: loaded.state_dict[name] != 0 for name in plan.masks()})


def test_masks_go_with_a_sparse_file(tmp_path):
    model = network()
    masks = gpmt.prune_(model, sparsity=0.5).masks()
    gpmt.save_sparse(model, tmp_path / "a.sparse.safetensors", masks=masks, metadata={"by": "me"})
    loaded = gpmt.load(tmp_path / "a.sparse.safetensors")
    assert loaded.masks == masks
    assert (loaded.source, loaded.metadata) == ("sparse file", {"by": "me"})
    save_checkpoint(tmp_path / "b.sparse.safetensors", loaded)
    assert gpmt.load(tmp_path / "b.sparse.safetensors").masks == masks


class TestMasksAlone:
    @pytest.fixture
    def path(self, tmp_path):
        gpmt.plan(network(), sparsity=0.8).masks().save(tmp_path / "masks.safetensors")
        return tmp_path / "masks.safetensors"

    def test_they_need_weights(self, path):
        with pytest.raises(
            MaskError, match=r"holds masks alone \(masks of gpmt\); give the weights they belong to"
        ):
            gpmt.load(path)
        with pytest.raises(MaskError, match=r"holds masks alone \(NNI masks\)"):
            gpmt.load(FIXTURES / "nni_masks.pth")
        with pytest.raises(MaskError, match=r"holds masks alone \(published masks\)"):
            gpmt.load(FIXTURES / "weight_mask.npy")

    def test_weights_come_from_anywhere(self, path, tmp_path):
        model = network()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        torch.save({"state_dict": before}, tmp_path / "dense.pt")
        pruned = network()
        gpmt.prune_(pruned, sparsity=0.8)
        for weights in (model, before, tmp_path / "dense.pt", gpmt.load(tmp_path / "dense.pt")):
            loaded = gpmt.load(path, weights=weights)
            assert loaded.masks == Masks.load(path)
            for name, tensor in pruned.state_dict().items():
                assert torch.equal(loaded.state_dict[name], tensor)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    def test_tied_weights_stay_tied(self, tmp_path):
        weight = torch.randn(4, 4)
        Masks.from_dense({"a.weight": torch.eye(4, dtype=torch.bool)}).save(tmp_path / "m.safetensors")
        loaded = gpmt.load(tmp_path / "m.safetensors", weights={"a.weight": weight, "b.weight": weight})
        assert torch.equal(loaded.state_dict["b.weight"], weight * torch.eye(4))
        assert loaded.state_dict["a.weight"].data_ptr() == loaded.state_dict["b.weight"].data_ptr()

    def test_one_memory_as_two_types_is_two_tensors(self, tmp_path):
        weight = torch.ones(4, 4)
        bits = weight.view(torch.int32)
        Masks.from_dense({"a.weight": torch.eye(4, dtype=torch.bool)}).save(tmp_path / "m.safetensors")
        loaded = gpmt.load(tmp_path / "m.safetensors", weights={"a.weight": weight, "bits": bits})
        assert torch.equal(loaded.state_dict["a.weight"], torch.eye(4))
        assert loaded.state_dict["bits"].dtype == torch.int32
        assert torch.equal(loaded.state_dict["bits"], bits)

    def test_masks_of_another_network(self, path):
        with pytest.raises(MaskError, match=r"masks\.safetensors: masked tensor 0\.weight is missing"):
            gpmt.load(path, weights={"w": torch.ones(2)})


def test_weights_for_a_file_that_has_its_own(tmp_path):
    torch.save(network().state_dict(), tmp_path / "a.pt")
    with pytest.raises(
        CheckpointError, match=r"a\.pt holds weights itself \(torch\.save\); leave out weights="
    ):
        gpmt.load(tmp_path / "a.pt", weights={})


def test_pruned_and_plain_layers_side_by_side(tmp_path):
    model = network()
    prune.l1_unstructured(model[3], "weight", amount=0.5)
    torch.save(model.state_dict(), tmp_path / "a.pt")
    loaded = gpmt.load(tmp_path / "a.pt")
    network().load_state_dict(loaded.state_dict)
    assert list(loaded.masks) == ["3.weight"]
    assert loaded.masks.total_pruned == 40


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04", b"\x08\x07", b"\x93NUMPY\x01\x00", b"\x80\x04."]
)
def test_anything_else_is_one_sentence(tmp_path, content):
    path = tmp_path / "odd"
    path.write_bytes(content)
    with pytest.raises(GpmtError, match="odd") as refused:
        gpmt.load(path, weights={"w.weight": torch.ones(2, 2)} if content.startswith(b"\x93") else None)
    assert "\n" not in str(refused.value)


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match="none does not exist; check the path"):
        gpmt.load(tmp_path / "none")
