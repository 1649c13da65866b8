from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import gpmt
from gpmt.errors import CheckpointError
from gpmt.formats.exporters.exported_network import ExportedNetwork, exported
from gpmt.formats.exporters.roundtrip import Report, check_outputs, check_weights, tensors, zeros


@pytest.fixture
def network() -> Iterator[ExportedNetwork]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    gpmt.prune_(module, sparsity=0.5)
    with exported(module, torch.randn(2, 4)) as made:
        yield made


def stored(network: ExportedNetwork) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.module.named_parameters()}


def test_counts(network: ExportedNetwork) -> None:
    counts = check_weights(network, stored(network), "a.onnx")
    assert {name: weights for name, (weights, _) in counts.items()} == {"0.weight": 24, "1.weight": 12}
    assert sum(zeros for _, zeros in counts.values()) == 18


def test_a_zero_more_is_found(network: ExportedNetwork) -> None:
    held = stored(network)
    position = held["1.weight"].nonzero()[0].tolist()
    held["1.weight"][*position] = 0
    before = zeros(stored(network)["1.weight"])
    message = (
        rf"^a\.onnx would hold 1\.weight with {before + 1} zeros and shape \[2, 6\], but the network has {before} "
        r"and \[2, 6\]; nothing was written$"
    )
    with pytest.raises(CheckpointError, match=message):
        check_weights(network, held, "a.onnx")


def test_other_shapes_values_and_signs_are_found(network: ExportedNetwork) -> None:
    transposed = stored(network) | {"0.weight": network.module[0].weight.detach().T}
    with pytest.raises(CheckpointError, match=r"0\.weight with \d+ zeros and shape \[4, 6\]"):
        check_weights(network, transposed, "a.onnx")
    for change in (torch.Tensor.flip(stored(network)["0.weight"], (0,)), -stored(network)["0.weight"].abs()):
        with pytest.raises(
            CheckpointError, match=r"^a\.onnx would hold other values of 0\.weight than the network"
        ):
            check_weights(network, stored(network) | {"0.weight": change}, "a.onnx")


def test_a_missing_tensor_is_found(network: ExportedNetwork) -> None:
    held = stored(network)
    del held["0.weight"]
    with pytest.raises(
        CheckpointError, match=r"^a\.onnx would not hold 0\.weight, which is in the network; nothing"
    ):
        check_weights(network, held, "a.onnx")


def test_tied_tensors_and_unused_ones() -> None:
    module = nn.ModuleDict({name: nn.Linear(4, 4) for name in ("first", "second", "idle")})
    module["second"].weight = module["first"].weight
    module.forward = lambda values: module["second"](module["first"](values))  # type: ignore[method-assign]
    with exported(module, torch.randn(2, 4)) as network:
        only = {"second.weight": module["first"].weight.detach()}
        assert list(check_weights(network, only, "a")) == ["first.weight"]
        also = only | {"idle.weight": module["idle"].weight.detach()}
        assert list(check_weights(network, also, "a")) == ["first.weight", "idle.weight"]


def outputs(network: ExportedNetwork, factor: float = 1.0, **options: float) -> dict[int, float]:
    return check_outputs(
        network, lambda n: [network.outputs(n) * factor], "a.onnx", reader="runtime", **options
    )


def test_outputs(network: ExportedNetwork) -> None:
    assert outputs(network) == {1: 0.0, 3: 0.0}
    errors = outputs(network, 1 + 5e-6)
    assert all(error == pytest.approx(5e-6, rel=0.1) for error in errors.values())
    message = (
        r"^a\.onnx gives other outputs in runtime than the network, by 1\.0e-03 of the largest \(1e-05 is allowed\), "
        r"for a batch of 1; nothing was written, raise the tolerance if that will do$"
    )
    with pytest.raises(CheckpointError, match=message):
        outputs(network, 1.001)
    assert outputs(network, 1.001, tolerance=0.01)[1] == pytest.approx(1e-3, rel=0.1)
    with pytest.raises(CheckpointError, match=r"by inf of the largest"):
        outputs(network, float("nan"))


def test_outputs_of_another_shape_or_number(network: ExportedNetwork) -> None:
    def run(size: int) -> list[Tensor]:
        return [network.outputs(2)]  # as a graph with a fixed batch would

    message = r"shapes \[2, 2\] in runtime, but the network \[1, 2\], for a batch of 1; nothing was written$"
    with pytest.raises(CheckpointError, match=message):
        check_outputs(network, run, "a.onnx", reader="runtime")
    with pytest.raises(
        CheckpointError, match=r"shapes \[1, 2\], \[1, 2\] in runtime, but the network \[1, 2\],"
    ):
        check_outputs(network, lambda n: [network.outputs(n)] * 2, "a.onnx", reader="runtime")


def test_not_a_number_where_the_network_has_it_too() -> None:
    module = nn.Linear(1, 2)
    with torch.no_grad():
        module.weight[0] = torch.inf
    with exported(module, torch.zeros(1, 1) + 2) as network:
        assert outputs(network) == {1: 0.0, 3: 0.0}


def test_tensors_of_nested_outputs() -> None:
    one, two = torch.ones(1), torch.ones(2)
    assert [tensor.numel() for tensor in tensors({"b": (one, None), "a": [two, 3]})] == [1, 2]


def test_totals() -> None:
    from pathlib import Path

    report = Report(Path("a"), 1, {"x": (10, 7), "y": (5, 0)}, (), {})
    assert (report.weights, report.zeros) == (15, 7)


def test_half_precision_is_allowed_its_own_rounding() -> None:
    module = nn.Linear(4, 2).bfloat16()
    epsilon = torch.finfo(torch.bfloat16).eps
    with exported(module, torch.ones(2, 4, dtype=torch.bfloat16)) as made:
        for factor, within in ((1 + 8 * epsilon, True), (1 + 32 * epsilon, False)):

            def run(size: int, factor: float = factor) -> list[Tensor]:
                return [tensor * factor for tensor in tensors(made.outputs(size))]

            if within:
                assert all(error > 1e-5 for error in check_outputs(made, run, "a.pt2", reader="us").values())
            else:
                with pytest.raises(CheckpointError, match=r"gives other outputs in us than the network"):
                    check_outputs(made, run, "a.pt2", reader="us")
