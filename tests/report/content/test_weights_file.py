from pathlib import Path

import pytest
import torch
from tests.report.folders import Network, write_run

import gpmt
from gpmt.errors import CheckpointError
from gpmt.report.content.weights_file import counted, read_weights
from gpmt.report.page.summary import verdict


def pruned() -> Network:
    torch.manual_seed(0)
    network = Network()
    gpmt.prune_(network, sparsity=0.9, min_kept=20)
    return network


def test_plain_weights_tell_what_is_zero(tmp_path: Path):
    network, path = pruned(), tmp_path / "model.pt"
    torch.save(network.state_dict(), path)
    subject = read_weights(path)
    verified = gpmt.verify(network)
    assert (subject.kind, subject.title, subject.numel, subject.kept) == (
        "file",
        "model.pt",
        verified.numel,
        verified.kept,
    )
    assert subject.nonzero_parameters == sum(int((p != 0).sum()) for p in network.parameters())
    assert subject.layers[1].name == "attention.in_proj_weight.q"
    assert subject.layers[0].floor is None
    assert subject.histograms[0].before is None
    assert len(subject.channels) == 4
    assert any(text.startswith("floors and thresholds: ") for text in subject.missing)


def test_a_sparse_file_tells_the_same(tmp_path: Path):
    network = pruned()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    path = tmp_path / "model.sparse.safetensors"
    size = gpmt.save_sparse(network, path)
    subject, plain = read_weights(path), read_weights(tmp_path / "model.pt")
    assert subject.layers == plain.layers
    assert subject.channels == plain.channels
    assert subject.sizes.sparse == plain.sizes.sparse == size.bytes


def test_a_file_of_a_run_knows_its_plan(tmp_path: Path):
    metrics = write_run(tmp_path / "run")
    subject = read_weights(tmp_path / "run" / "model.pt")
    assert subject.asked == "90 %"
    assert subject.minimum == "20"
    assert subject.thresholds == {"": metrics["plan"]["threshold"]}
    assert [layer.floor for layer in subject.layers] == [20] * 6
    assert subject.kept == metrics["kept"]


def test_a_layer_that_verify_calls_collapsed_is_in_the_summary(tmp_path: Path):
    """3 of 147,456 weights: not dead, and not alive either."""
    network = torch.nn.Sequential(torch.nn.Conv2d(64, 256, 3, padding=1), torch.nn.Conv2d(64, 256, 3))
    with torch.no_grad():
        kept = network[0].weight.flatten()[:3].clone()
        network[0].weight.zero_().view(-1)[:3] = kept
    torch.save(network.state_dict(), tmp_path / "model.pt")
    subject = read_weights(tmp_path / "model.pt")
    (check,) = [check for check in gpmt.verify(network).checks if check.name == "collapsed"]
    assert subject.collapsed == ["0.weight"]
    assert subject.warnings == ["fewer than a tenth of the outputs are live in 0.weight"]
    assert subject.warnings[0] in check.message
    found = verdict(subject)
    assert (found.state, found.headline) == ("warning", "Collapsed layers")
    assert found.sentence == (
        "In 0.weight fewer than a tenth of its outputs have any weight left, which gpmt verify calls collapsed. "
        "Every layer keeps at least 3 weights (0.weight: 3 of 147,456). Accuracy is not known."
    )


def test_a_file_that_is_no_weights_is_refused(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("words")
    with pytest.raises(CheckpointError, match=r"notes\.txt"):
        read_weights(path)


def test_layers_of_a_state_dict_are_counted():
    [layer] = counted({"fc.weight": torch.eye(3)})
    assert (layer.name, layer.numel, layer.kept, layer.outputs, layer.live_outputs) == (
        "fc.weight",
        9,
        3,
        3,
        3,
    )
