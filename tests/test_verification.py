from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import gpmt
from gpmt.errors import BudgetError, CheckpointError, GpmtError, MaskError, ScopeError
from gpmt.masks import Masks
from gpmt.verification import Verification, verify


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 10))


def status(result: Verification) -> dict[str, str]:
    return {check.name: check.status for check in result.checks}


def message(result: Verification, name: str) -> str:
    return next(check.message for check in result.checks if check.name == name)


def test_what_gpmt_prunes_passes() -> None:
    model = network()
    plan = gpmt.plan(model, sparsity=0.9, min_kept=10)
    masks = plan.masks()
    masks.apply_(model)
    result = verify(model, sparsity=0.9, min_kept=10, masks=masks)
    assert result
    assert result.ok
    assert set(status(result).values()) == {"ok"}
    assert (result.numel, result.pruned, result.kept) == (296, 266, 30)
    assert message(result, "total") == "266 of 296 weights are pruned, as asked for"
    assert [(row.name, row.kept) for row in result.tensors] == [(row.name, row.kept) for row in plan.tensors]


def test_without_promises_only_health_is_checked() -> None:
    assert status(verify(network())) == {"finite": "ok", "dead": "ok"}


@given(
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4),
    percent=st.integers(0, 99),
    off=st.integers(-2, 2),
    tolerance=st.integers(0, 2),
)
def test_the_total_is_exact(sizes: list[tuple[int, int]], percent: int, off: int, tolerance: int) -> None:
    state = {f"{i}.weight": torch.ones(shape) for i, shape in enumerate(sizes)}
    numel = sum(tensor.numel() for tensor in state.values())
    zeros = min(max(numel * percent // 100 + off, 0), numel)
    flat = torch.ones(numel)
    flat[:zeros] = -0.0
    for tensor, part in zip(state.values(), flat.split([t.numel() for t in state.values()]), strict=True):
        tensor.copy_(part.view(tensor.shape))
    result = verify(state, sparsity=f"{percent}%", tolerance=tolerance)
    assert result.pruned == zeros
    assert (status(result)["total"] == "ok") == (abs(zeros - numel * percent // 100) <= tolerance)


def test_too_few_and_too_many() -> None:
    state = {"a.weight": torch.tensor([[1.0, 0.0, 0.0, 2.0]])}
    few, many = verify(state, sparsity=0.75), verify(state, sparsity=0.25)
    assert not few
    assert message(few, "total") == "2 of 4 weights are pruned, 1 too few for the 3 asked for"
    assert message(many, "total") == "2 of 4 weights are pruned, 1 too many for the 1 asked for"
    assert "within 1" in message(verify(state, sparsity=0.75, tolerance=1), "total")


def test_floors() -> None:
    state = {"a.weight": torch.tensor([[1.0, 0.0, 0.0, 2.0]]), "b.weight": torch.ones(1, 2)}
    assert verify(state, min_kept=2)
    low = verify(state, min_kept=3)
    assert message(low, "minimum") == "fewer weights are kept than the minimum in a.weight (2 of 3)"
    assert not low
    assert status(verify(state, min_kept="50%"))["minimum"] == "failed"  # 3 of the 6 prunable weights


def test_a_dead_tensor_fails() -> None:
    result = verify({"a.weight": torch.zeros(2, 2), "b.weight": torch.ones(2, 2)})
    assert not result
    assert message(result, "dead") == "no weight is left in a.weight"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_not_finite_weights_fail(value: float) -> None:
    state = {"a.weight": torch.ones(2, 2)}
    state["a.weight"][1, 1] = value
    result = verify(state)
    assert not result
    assert message(result, "finite") == "NaN or infinite weights in a.weight (1)"


def test_a_collapsed_tensor_is_a_warning() -> None:
    weight = torch.zeros(30, 4)
    weight[:2] = 1
    result = verify({"a.weight": weight, "b.weight": torch.ones(1, 4)})
    assert result
    assert status(result)["collapsed"] == "warning"
    assert message(result, "collapsed") == "fewer than a tenth of the outputs are live in a.weight (2 of 30)"
    weight[2] = 1
    assert "collapsed" not in status(verify({"a.weight": weight}))


@pytest.mark.parametrize(
    ("layer", "outputs"),
    [
        (nn.Conv2d(3, 8, 3), 8),
        (nn.Linear(3, 8), 8),
        (nn.ConvTranspose2d(3, 8, 3), 8),
        (nn.ConvTranspose2d(4, 8, 3, groups=2), 4),
    ],
)
def test_live_outputs_follow_the_layout(layer: nn.Module, outputs: int) -> None:
    transposed = isinstance(layer, nn.ConvTranspose2d)
    weight = layer.weight.data
    (weight[:, 1] if transposed else weight[1]).zero_()
    (row,) = verify(layer).tensors
    assert (row.outputs, row.live_outputs) == (outputs, outputs - 1)


def test_transformers_conv1d_has_outputs_last() -> None:
    layer = pytest.importorskip("transformers.pytorch_utils").Conv1D(8, 3)
    layer.weight.data[:, 5] = 0
    (row,) = verify(layer).tensors
    assert (row.outputs, row.live_outputs) == (8, 7)


def test_chunks_do_not_change_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"a.weight": torch.randn(37, 5, 3, 3).relu(), "b.weight": torch.randn(41, 13).relu().T}
    whole = verify(state).tensors
    monkeypatch.setattr("gpmt.counting.CHUNK", 50)
    assert verify(state).tensors == whole
    assert [row.kept for row in whole] == [int(tensor.count_nonzero()) for tensor in state.values()]


def masked() -> tuple[dict[str, Tensor], Masks]:
    state = {"a.weight": torch.ones(2, 4), "b.weight": torch.ones(1, 4)}
    keep = {"a.weight": torch.arange(8).view(2, 4) < 3, "b.weight": torch.ones(1, 4, dtype=torch.bool)}
    masks = Masks.from_dense(keep)
    masks.apply_(state)
    return state, masks


def test_masks_hold() -> None:
    state, masks = masked()
    result = verify(state, masks=masks)
    assert result
    assert message(result, "masks") == "all 5 weights that the masks prune are zero"


def test_a_revived_weight_fails_and_is_named() -> None:
    state, masks = masked()
    state["a.weight"][1, 3] = 1e-30
    state["a.weight"][1, 2] = float("nan")
    result = verify(state, masks=masks)
    assert not result
    assert message(result, "masks") == "weights that the masks prune are not zero in a.weight (2)"


def test_kept_weights_that_are_zero_are_not_a_failure() -> None:
    state, masks = masked()
    state["b.weight"][0, :2] = 0
    result = verify(state, masks=masks, sparsity=5 / 12, min_kept=3)
    assert result
    assert message(result, "masks").endswith("; 2 that they keep are zero too")
    assert result.pruned == 7  # what is there, not what the masks say
    assert not verify(state, sparsity=5 / 12)


def test_the_masks_decide_which_tensors_are_covered() -> None:
    model = network()
    masks = gpmt.plan(model, sparsity=0.5, exclude="3").masks()
    masks.apply_(model)
    result = verify(model, sparsity=0.5, masks=masks)
    assert result
    assert [row.name for row in result.tensors] == ["0.weight"]
    assert not verify(model, sparsity=0.5)
    assert verify(model, sparsity=0.5, exclude="3")


def test_masks_and_weights_from_files(tmp_path: Path) -> None:
    state, masks = masked()
    torch.save({"state_dict": state}, tmp_path / "a.pt")
    masks.save(tmp_path / "masks.safetensors")
    assert verify(tmp_path / "a.pt", masks=tmp_path / "masks.safetensors")
    assert verify(str(tmp_path / "a.pt"), masks=str(tmp_path / "masks.safetensors"))


def test_an_automatic_minimum_follows_from_the_sparsity() -> None:
    tensors = {"a.weight": torch.linspace(1, 2, 2000).view(40, 50), "b.weight": torch.full((20, 50), 0.01)}
    gpmt.prune_(tensors, sparsity=0.98, min_kept="auto")
    assert verify(tensors, sparsity=0.98, min_kept="auto")
    tensors["b.weight"][tensors["b.weight"] != 0] = torch.tensor([0.0, *[1.0] * 21])  # 22 are kept
    assert "fewer weights are kept than the minimum in b.weight" in str(
        verify(tensors, sparsity=0.98, min_kept="auto")
    )


def test_bad_requests(tmp_path: Path) -> None:
    state, masks = masked()
    with pytest.raises(BudgetError, match=r"sparsity is 1\.5, but must be"):
        verify(state, sparsity=1.5)
    with pytest.raises(BudgetError, match='min_kept is "auto", which follows from the sparsity'):
        verify(state, min_kept="auto")
    with pytest.raises(BudgetError, match="tolerance is -1, but must be a whole number of weights"):
        verify(state, tolerance=-1)
    with pytest.raises(MaskError, match=r"b\.weight is missing"):
        verify({"a.weight": torch.ones(2, 4)}, masks=masks)
    with pytest.raises(CheckpointError, match="does not exist"):
        verify(tmp_path / "none.pt")
    with pytest.raises(ScopeError):
        verify({"a.bias": torch.ones(3)})


def test_report_as_text_and_as_plain_values() -> None:
    state, masks = masked()
    state["a.weight"][1, 3] = 1
    result = verify(state, masks=masks, sparsity=0.5)
    text = str(result)
    assert "failed: masks: weights that the masks prune are not zero in a.weight (1)" in text
    assert text.endswith("FAILED: 4 of 12 weights are zero")
    values = result.to_dict()
    assert values["ok"] is False
    assert (values["weights"], values["kept"], values["pruned"]) == (12, 8, 4)
    assert values["tensors"][0] == {
        "name": "a.weight",
        "kind": "matrix",
        "shape": [2, 4],
        "weights": 8,
        "kept": 4,
        "density": 0.5,
        "not_finite": 0,
        "outputs": 2,
        "live_outputs": 2,
        "kept_by_mask": 3,
        "revived": 1,
    }


def test_the_state_of_a_compiled_network_is_verified_by_masks_of_the_plain_one():
    network = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Linear(4, 2))
    masks = gpmt.prune_(network, sparsity=0.5).masks()
    state = torch.compile(network).state_dict()
    assert gpmt.verify(state, masks=masks, sparsity=0.5)
    state["_orig_mod.0.weight"].fill_(1)
    assert not gpmt.verify(state, masks=masks)


def test_paths_are_followed_where_there_is_an_example() -> None:
    model = network()
    example = torch.zeros(1, 3, 3, 3)
    result = verify(model, example=example)
    assert status(result) == {"finite": "ok", "dead": "ok", "paths": "ok"}
    assert result.paths is not None
    assert result.to_dict()["paths"]["active"] == 296
    with torch.no_grad():
        model[0].weight[:2] = 0
    result = verify(model, example=example)
    assert result
    assert status(result)["paths"] == "warning"
    assert message(result, "paths") == (
        "2 of 8 outputs of 0.weight are dead; 20 kept weights (8.26%) are on no path: effective sparsity 25.00% "
        "(kept 18.24%)"
    )
    assert "warning: paths: 2 of 8 outputs of 0.weight are dead" in str(result)
    assert verify(model).paths is None
    assert verify(model).to_dict()["paths"] is None


def test_paths_by_masks() -> None:
    model = network()
    masks = Masks.from_dense({"3.weight": torch.eye(10, 8, dtype=torch.bool)})
    masks.apply_(model)
    result = verify(model, masks=masks, example=torch.zeros(1, 3, 3, 3))
    assert result.paths is not None
    assert [(row.name, row.kept, row.active) for row in result.paths.tensors] == [("3.weight", 8, 8)]


def test_a_network_that_cannot_be_followed_is_verified_without_paths() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) if x.sum() > 0 else self.fc(-x)

    result = verify(Branches(), example=torch.zeros(1, 4))
    assert result
    assert result.paths is None
    assert message(result, "paths").startswith(
        "cannot be told: Branches cannot be followed from its input to its"
    )


def test_an_example_needs_the_network() -> None:
    with pytest.raises(
        GpmtError, match="an example is of use only to a network; give the module, not its weights"
    ):
        verify(network().state_dict(), example=torch.zeros(1, 3, 3, 3))
