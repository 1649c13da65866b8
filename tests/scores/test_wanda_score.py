import copy

import pytest
import torch
from torch import nn

import gpmt
from gpmt.errors import CalibrationError, ScopeError, ScoresError
from gpmt.scores.wanda_score import wanda
from gpmt.warning import GpmtWarning


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1, groups=2), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)
    )


def test_scores_by_the_definition():
    model, batches = network(), [torch.randn(n, 2, 5) for n in (4, 1)]
    scores = wanda(model, batches)
    assert list(scores) == ["0.weight", "4.weight"]
    with torch.no_grad():
        padded = torch.nn.functional.pad(torch.cat(batches), (1, 1))
        hidden = torch.cat([model.eval()[:4](batch) for batch in batches])
    for output in range(4):
        for tap in range(3):
            values = [
                padded[n, output // 2, position + tap].item() for n in range(5) for position in range(5)
            ]
            norm = sum(value**2 for value in values) ** 0.5
            assert scores["0.weight"][output, 0, tap].item() == pytest.approx(
                abs(model[0].weight[output, 0, tap].item()) * norm
            )
    for output in range(3):
        for i in range(20):
            norm = sum(value.item() ** 2 for value in hidden[:, i]) ** 0.5
            assert scores["4.weight"][output, i].item() == pytest.approx(
                abs(model[4].weight[output, i].item()) * norm
            )


def test_plans_by_row_keep_the_largest_scores_of_every_output():
    torch.manual_seed(0)
    model, batches = nn.Sequential(nn.Linear(10, 4), nn.ReLU(), nn.Linear(4, 3)), [torch.randn(20, 10)]
    scores = wanda(model, batches)
    masks = gpmt.plan(
        model, sparsity=0.5, scores=lambda network: wanda(network, batches), within="row"
    ).masks()
    for name, score in scores.items():
        half = score.shape[1] // 2
        best = score.topk(half, dim=1).indices.sort(1).values
        assert masks[name].nonzero()[:, 1].view(-1, half).tolist() == best.tolist()


def test_nothing_of_the_network_changes():
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    scores = wanda(model, [torch.randn(4, 2, 5)])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(score.requires_grad for score in scores.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(dtype: torch.dtype):
    model, batch = network().to(dtype), torch.randn(4, 2, 5)
    scores = wanda(model, [batch])
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert {score.dtype for score in scores.values()} == {expected}
    exact = wanda(copy.deepcopy(model).double(), [batch.to(dtype)])
    assert torch.allclose(scores["0.weight"].double(), exact["0.weight"], rtol=1e-5)


def test_padding_tokens_count_like_any():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    settings = transformers.BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    model = transformers.BertForSequenceClassification(settings)
    name = "bert.encoder.layer.0.attention.self.query.weight"
    tokens, mask = torch.tensor([[3, 4, 5, 0]]), torch.tensor([[1, 1, 1, 0]])
    with torch.no_grad():
        embedded = model.eval().bert.embeddings(input_ids=tokens)[0]
    scores = wanda(model, [{"input_ids": tokens, "attention_mask": mask}], scope=name)
    weight = dict(model.named_parameters())[name].detach()
    assert torch.allclose(scores[name], weight.abs() * embedded.norm(dim=0), atol=1e-6)


def test_channels_last_is_the_same():
    torch.manual_seed(0)
    model, batch = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 6, 6)
    plain = wanda(model, [batch])["weight"]
    last = wanda(model.to(memory_format=torch.channels_last), [batch])["weight"]
    assert torch.allclose(plain, last)
    assert last.is_contiguous()


class Idle(nn.Module):
    """Two experts, of which the second gets nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.up_proj = nn.Parameter(torch.ones(2, 3, 4))
        self.down_proj = nn.Parameter(torch.ones(2, 4, 3))

    def forward(self, x):
        return x @ self.up_proj[0].T @ self.down_proj[0].T


def test_idle_experts_are_told():
    with pytest.warns(
        GpmtWarning,
        match=r"^12 of the 24 weights of up_proj, and some of 1 more tensors, had no inputs in the "
        r"batches, as experts that get no tokens, so their scores are zero and they are pruned first; "
        r"give more data, or a minimum$",
    ):
        scores = wanda(Idle(), [torch.ones(2, 4)])
    assert scores["up_proj"][0].min() > 0
    assert scores["up_proj"][1].max() == 0


def test_what_cannot_be_scored():
    model = nn.Sequential(nn.Linear(2, 2), nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    with pytest.raises(CalibrationError, match=r"no inputs of 1.parametrizations.weight.original1 were seen"):
        wanda(model, [torch.ones(1, 2)])
    assert list(wanda(model, [torch.ones(1, 2)], exclude="1.weight")) == ["0.weight"]
    with pytest.raises(CalibrationError, match="batches is empty"):
        wanda(model, [])
    with pytest.raises(ScopeError, match="matches nothing"):
        wanda(model, [torch.ones(1, 2)], scope="fc")
    with pytest.raises(
        ScoresError,
        match="these scores run the network, but were given an object of type OrderedDict; give a module",
    ):
        wanda(model.state_dict(), [torch.ones(1, 2)])
