"""What lies outside of a scope, and why."""

import torch
from tests.core.networks import Net
from torch import nn

from gpmt.core.scope.coverage import Coverage, Outside
from gpmt.core.scope.scope import find_scope


def rows(target, **options):
    """Return the reason for each tensor outside."""
    return {row.name: row.reason for row in find_scope(target, **options).outside}


class Language(nn.Module):
    """A small language model with experts and an adapter."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(30, 4)
        self.mlp = nn.ModuleDict(
            {"gate": nn.Linear(4, 2), "experts": nn.ModuleList([nn.Linear(4, 4) for _ in "ab"])}
        )
        self.lora_A = nn.Linear(4, 2, bias=False)
        self.norm = nn.LayerNorm([3, 4])
        self.table = nn.Parameter(torch.ones(3, 3))
        self.steps = nn.Parameter(torch.ones(3, 3, dtype=torch.int64), requires_grad=False)
        self.lm_head = nn.Linear(4, 30, bias=False)
        if tied:
            self.lm_head.weight = self.embed_tokens.weight


def test_reasons():
    net = Language(tied=False)
    expected = {
        "embed_tokens.weight": "embedding",
        "lm_head.weight": "output head",
        "norm.weight": "norm",
        "table": "unknown layer",
        "mlp.gate.weight": "router",
        "lora_A.weight": "adapter",
    }
    assert rows(net) == expected
    assert rows(net.state_dict()) == expected | {"norm.weight": "named like a norm"}
    assert [row.numel for row in find_scope(net).outside] == [120, 120, 12, 9, 8, 8]


def test_tied_weights_count_once():
    net = Language(tied=True)
    assert "lm_head.weight" not in rows(net)
    assert rows(net)["embed_tokens.weight"] == "embedding"
    found = find_scope(net).coverage
    floating = {name: p for name, p in net.named_parameters() if p.is_floating_point() and "bias" not in name}
    assert found.total == sum(weight.numel() for weight in floating.values() if weight.ndim > 1)
    decoder, embedding = nn.Linear(4, 30, bias=False), nn.Embedding(30, 4)
    decoder.weight = embedding.weight
    first = nn.ModuleDict({"decoder": decoder, "embed": embedding, "fc": nn.Linear(4, 4)})
    assert rows(first) == {"decoder.weight": "tied to an embedding"}


def test_what_the_user_leaves_out():
    net = Net()
    assert rows(net, exclude="head")["head.weight"] == "excluded"
    assert rows(net, scope="head")["body.conv1.weight"] == "not in scope="
    assert rows(net, scope="tokens")["head.weight"] == "not in scope="
    assert "tokens.weight" not in rows(net, scope="tokens")


def test_totals():
    found = find_scope(Net()).coverage
    assert (found.inside, found.total) == (336, 336 + 60 + 30 + 9)
    assert found.share == 336 / 435
    assert found.whole_sparsity(168) == 168 / 435
    assert found.to_dict() == {
        "weights": 336,
        "network_weights": 435,
        "share": 336 / 435,
        "outside": [
            {"name": "tokens.weight", "weights": 60, "reason": "embedding"},
            {"name": "body.ln.weight", "weights": 30, "reason": "norm"},
            {"name": "mixing", "weights": 9, "reason": "unknown layer"},
        ],
    }


def test_the_text_folds_layers_and_says_how_to_go_further():
    routers = [Outside(f"layers.{i}.mlp.gate.weight", 1_000, "router") for i in range(40)]
    found = Coverage(
        46_700_000,
        (
            Outside("model.embed_tokens.weight", 131_072_000, "embedding"),
            Outside("lm_head.weight", 131_072_000, "output head"),
            *routers,
            Outside("norm.weight", 12, "norm", by_name=False),
        ),
    )
    assert found.lines() == [
        "scope: 46.7 M of 309 M weights (15.1 %)",
        "outside: model.embed_tokens.weight 131 M (embedding), lm_head.weight 131 M (output head), "
        "40 × layers.*.mlp.gate.weight 40.0 k (router), 1 more 12",
        'to prune such a tensor too, name it, as in scope=["*", "model.embed_tokens.weight"]',
    ]


def test_a_scope_of_everything_takes_one_line():
    found = find_scope(nn.Linear(4, 5)).coverage
    assert str(found) == "scope: 20 of 20 weights (100 %)"
    assert found.complete


def test_naming_it_brings_it_in():
    net = Language(tied=False)
    found = find_scope(net, scope=["*", "lm_head.weight"])
    assert "lm_head.weight" in found.tensors
    assert set(find_scope(net).tensors) < set(found.tensors)


def test_only_what_the_user_left_out_needs_no_hint():
    found = find_scope(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 4)), exclude="1").coverage
    assert found.lines() == ["scope: 20 of 40 weights (50 %)", "outside: 1.weight 20 (excluded)"]
