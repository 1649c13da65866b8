from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpmt.report.content import weights
from gpmt.report.content.subject import Layer, Subject
from gpmt.report.content.weights import Files, count_parameters, with_weights


def subject_of(state: dict[str, torch.Tensor]) -> Subject:
    rows = [
        Layer(name, name, "matrix", tuple(tensor.shape), tensor.numel(), int((tensor != 0).sum()))
        for name, tensor in state.items()
        if tensor.ndim > 1
    ]
    return Subject("file", "x", "x.pt", layers=rows)


def test_parameters_are_what_is_no_buffer_and_tied_ones_count_once():
    weight = torch.tensor([[1.0, 0.0]])
    state = {
        "a": weight,
        "tied": weight,
        "n.running_var": torch.ones(3),
        "n.num_batches_tracked": torch.tensor(4),
    }
    assert count_parameters(state) == (2, 1)


def test_a_file_of_another_network_is_said():
    state = {"a.weight": torch.eye(4), "a.bias": torch.zeros(4)}
    found = with_weights(replace(subject_of(state), parameters=99), Files(state, None, Path("x.pt")))
    assert (found.parameters, found.nonzero_parameters) == (99, None)
    assert any(
        "x.pt has 20 values beside buffers, but the network 99 parameters" in text for text in found.missing
    )


def test_tensors_that_a_file_lacks_are_named_together():
    state = {f"{name}.weight": torch.eye(3) for name in "abcde"}
    subject = subject_of(state)
    found = with_weights(subject, Files({"a.weight": torch.eye(3)}, None, Path("x.pt")))
    assert (
        "histograms and channels of b.weight, c.weight, d.weight and 1 more: x.pt lacks them" in found.missing
    )
    assert [one.tensor for one in found.channels] == ["a.weight"]


def test_dense_weights_of_another_network_are_left_out():
    state = {"a.weight": torch.eye(3)}
    found = with_weights(subject_of(state), Files(state, {"a.weight": torch.ones(2, 2)}, Path("x.pt")))
    assert found.histograms[0].before is None
    assert any(text.startswith("magnitudes before pruning: ") for text in found.missing)


def test_of_many_tensors_those_that_lost_most_outputs_have_maps(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weights, "MOST_MAPS", 2)
    state = {f"{number}.weight": torch.ones(6, 3 + number) for number in range(4)}
    state["0.weight"][:4] = 0
    layers = [
        replace(layer, outputs=6, live_outputs=2 if layer.name == "0.weight" else 6)
        for layer in subject_of(state).layers
    ]
    found = with_weights(replace(subject_of(state), layers=layers), Files(state, None, Path("x.pt")))
    assert [one.tensor for one in found.channels] == ["0.weight", "3.weight"]
    assert any(text.startswith("channels of 2 tensors: of 4, ") for text in found.missing)


def test_thresholds_that_are_no_magnitudes_are_not_drawn():
    state = {"a.weight": torch.eye(3)}
    subject = replace(subject_of(state), thresholds={"": 0.5})
    files = Files(state, None, Path("x.pt"))
    assert with_weights(subject, files).histograms[1].threshold == 0.5
    assert with_weights(subject, files, ranked=False).histograms[1].threshold is None
