import copy
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gpmt
from gpmt.core.budget.budget import parse_sparsity
from gpmt.errors import BudgetError, CalibrationError
from gpmt.sensitivities.measure import SPARSITIES, sensitivity
from gpmt.sensitivities.result import Sensitivity


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 16, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(F.relu(self.norm(self.conv(images))).flatten(1))


@pytest.fixture
def network() -> Net:
    torch.manual_seed(0)
    made = Net()
    with torch.no_grad():
        made.conv.weight[0, 0, 0] = 0.25  # ties
        made.fc.bias[0] = -0.0
    return made


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 1, 6, 6, generator=generator), torch.randint(3, (size,), generator=generator))
        for size in (8, 5)
    ]


def bits(network: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()}


def measured(network: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with torch.no_grad():
        logits = network.eval()(images)
    return F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()


def pruned_by_hand(network: Net, name: str, count: int) -> Net:
    """A copy with the `count` smallest weights of one tensor zero, of equal ones the last: a full sort."""
    other = copy.deepcopy(network)
    weights = other.get_parameter(name).detach().view(-1)
    order = sorted(range(weights.numel()), key=lambda index: (-weights[index].abs().item(), index))
    weights[order[weights.numel() - count :]] = 0.0
    return other


@pytest.mark.parametrize("recalibrated", [False, True])
def test_each_block_is_pruned_alone_to_the_exact_count(
    network: Net, batches: list[tuple[Tensor, Tensor]], recalibrated: bool
) -> None:
    before, training = bits(network), network.training
    found = sensitivity(network, batches, sparsities=["50%", 0.9], recalibrate=recalibrated)
    assert bits(network) == before
    assert network.training is training
    assert (found.complete, found.recalibrated, found.samples, found.numel) == (True, recalibrated, 13, 228)
    assert [(curve.name, curve.numel) for curve in found.curves] == [("conv.weight", 36), ("fc.weight", 192)]
    assert [[cell.kept for cell in curve.cells] for curve in found.curves] == [[18, 4], [96, 20]]
    for curve in found.curves:
        for cell in curve.cells:
            other = pruned_by_hand(network, curve.name, curve.numel - cell.kept)
            if recalibrated:
                gpmt.recalibrate(other, batches)
            assert (cell.loss, cell.top1) == pytest.approx(measured(other, batches), rel=1e-5)
    other = copy.deepcopy(network)
    if recalibrated:
        gpmt.recalibrate(other, batches)
    assert (found.dense.loss, found.dense.top1) == pytest.approx(measured(other, batches), rel=1e-5)


def test_recalibration_is_on_where_there_are_batch_norms(
    network: Net, batches: list[tuple[Tensor, Tensor]]
) -> None:
    assert sensitivity(network, batches, sparsities=[0.5]) == sensitivity(
        network, batches, sparsities=[0.5], recalibrate=batches
    )
    plain = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    assert not sensitivity(plain, batches, sparsities=[0.5], recalibrate=True).recalibrated


def test_blocks_inside_a_tensor_and_patterns(network: Net, batches: list[tuple[Tensor, Tensor]]) -> None:
    seen: list[Any] = []
    found = sensitivity(
        network,
        batches,
        sparsities=[0.5, 0.9],
        blocks={"conv.weight": ("a", "b")},
        only=["conv.weight.b", "fc"],
        on_cell=lambda name, sparsity, number, count: seen.append((name, float(sparsity), number, count)),
    )
    assert found.blocks == ("conv.weight.b", "fc.weight")
    assert [cell.kept for cell in found.curves[0].cells] == [9, 2]
    assert found.numel == 228
    expected = [("conv.weight.b", 0.5), ("conv.weight.b", 0.9), ("fc.weight", 0.5), ("fc.weight", 0.9)]
    assert seen == [(*cell, number, 4) for number, cell in enumerate(expected, 1)]


def test_a_small_block_is_not_measured_twice_for_one_count(batches: list[tuple[Tensor, Tensor]]) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 1), nn.Linear(1, 3))
    passes: list[int] = []
    network.register_forward_hook(lambda *_: passes.append(1))
    found = sensitivity(network, batches, sparsities=["90%", "99%"])
    first, second = found.curves[1].cells
    assert (first.kept, second) == (1, replace(first, sparsity=Fraction(99, 100)))
    assert len(passes) == 2 * (1 + 2 + 1)


def test_batches_of_other_kinds(network: Net, batches: list[tuple[Tensor, Tensor]]) -> None:
    targets = [(images, labels.float()) for images, labels in batches]
    found = sensitivity(
        network,
        targets,
        sparsities=[0.5],
        loss=lambda output, target: (output.mean(1) - target).square().mean(),
    )
    assert found.dense.top1 is None
    assert found.metric == "loss"
    with pytest.raises(CalibrationError, match=r'^the metric is "top1", but the data have no classes'):
        found.table("top1")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("boom")])
def test_an_interrupt_restores_the_network_and_resuming_gives_the_same(
    network: Net, batches: list[tuple[Tensor, Tensor]], error: BaseException
) -> None:
    whole = sensitivity(network, batches, sparsities=[0.5, 0.9])
    before, saved = bits(network), []

    class Data:
        """Raises while the second block is measured, after its weights were pruned and half of a pass was done."""

        passes = 0

        def __iter__(self) -> Iterator[Any]:
            Data.passes += 1
            yield batches[0]
            if Data.passes == 8:
                raise error
            yield batches[1]

    with pytest.raises(type(error)):
        sensitivity(network, Data(), sparsities=[0.5, 0.9], on_block=saved.append)
    assert bits(network) == before
    [part] = saved
    assert (part.complete, part.curves) == (False, whole.curves[:1])
    assert sensitivity(network, batches, sparsities=[0.5, 0.9], resume=part) == whole
    assert sensitivity(network, None, sparsities=[0.5, 0.9], recalibrate=batches, resume=whole) is whole  # type: ignore[arg-type]


def test_resuming_with_other_settings_is_refused(network: Net, batches: list[tuple[Tensor, Tensor]]) -> None:
    whole = sensitivity(network, batches, sparsities=[0.5])
    part = replace(whole, curves=whole.curves[:1])

    def refusal(*arguments: Any, **options: Any) -> str:
        with pytest.raises(CalibrationError) as caught:
            sensitivity(*arguments, **{"sparsities": [0.5], "resume": part, **options})
        return str(caught.value)

    assert refusal(network, batches, sparsities=[0.5, 0.9]) == (
        "the list of sparsities was 50% when it was measured, and is 50%, 90% now; go on with the same settings, or "
        "measure all anew"
    )
    assert "the recalibration was on when" in refusal(network, batches, recalibrate=False)
    assert "the list of blocks was 2 (conv.weight ... fc.weight) when" in refusal(network, batches, only="fc")
    assert "the list of blocks was 2 (conv.weight ... fc.weight) when" in refusal(
        network, batches, scope="conv"
    )
    assert refusal(network, batches[:1]).startswith("the dense network had a loss of ")
    with torch.no_grad():
        network.fc.bias[0] = 0.0  # it was -0.0
    assert refusal(network, batches).startswith("the weights are not those that were measured")


def test_what_cannot_be_measured_is_refused(network: Net, batches: list[tuple[Tensor, Tensor]]) -> None:
    with pytest.raises(CalibrationError, match=r"^batches is empty"):
        sensitivity(network, [], recalibrate=False)
    with pytest.raises(
        BudgetError, match=r"^the pattern 'head\.\*' of the blocks to measure matches nothing"
    ):
        sensitivity(network, batches, only="head.*")
    with pytest.raises(BudgetError, match=r"^sparsities has 0, at which nothing is pruned; give one or more"):
        sensitivity(network, batches, sparsities=[0, 0.5])
    with pytest.raises(BudgetError, match=r"^sparsities is empty"):
        sensitivity(network, batches, sparsities=[])
    broken = [(torch.full((2, 1, 6, 6), torch.nan), torch.tensor([0, 1]))]
    with pytest.raises(CalibrationError, match=r"^the loss of batch 1 is nan; look for NaN"):
        sensitivity(network, broken, recalibrate=False)


def test_a_loss_that_pruning_makes_infinite_names_the_block(batches: list[tuple[Tensor, Tensor]]) -> None:
    class Divided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(36, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.fc(images.flatten(1)) / self.fc.weight.abs().min()

    network = Divided()
    before = bits(network)
    with pytest.raises(
        CalibrationError, match=r"^with fc\.weight pruned to 50%, the loss of batch 1 is nan;"
    ):
        sensitivity(network, batches, sparsities=[0.5])
    assert bits(network) == before


def test_the_public_names() -> None:
    assert gpmt.Sensitivity is Sensitivity
    assert gpmt.sensitivity is sensitivity
    assert [float(parse_sparsity(one)) for one in SPARSITIES] == [0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99]
