"""How patterns choose among tensors."""

import fnmatch

import pytest
import torch
from torch import nn

from gpmt.core.scope import find_scope
from gpmt.errors import ScopeError
from tests.core.networks import DEFAULT, Net, names


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("head.weight", ["head.weight"]),
            ("head", ["head.weight"]),
            ("body", ["body.conv1.weight", "body.conv2.weight"]),
            ("body.*", ["body.conv1.weight", "body.conv2.weight"]),
            ("*.conv1", ["body.conv1.weight"]),
            ("*conv[2-9]*", ["body.conv2.weight"]),
            (r"re:conv\d\.", ["body.conv1.weight", "body.conv2.weight"]),
            (r"re:^head", ["head.weight"]),
            ("type:Conv2d", ["body.conv1.weight", "body.conv2.weight"]),
            ("type:_ConvNd", ["body.conv1.weight", "body.conv2.weight"]),
            (nn.Linear, ["head.weight"]),
            (["head", "*.conv1"], ["body.conv1.weight", "head.weight"]),
            (("head", nn.Conv2d, "mixing"), ["mixing", *DEFAULT]),
        ],
    )
    def test_scope(self, pattern, expected):
        assert names(Net(), scope=pattern) == expected

    @pytest.mark.parametrize("pattern", ["head.weight", "head", "hea?", "re:^head", "type:Linear", nn.Linear])
    def test_exclude(self, pattern):
        assert names(Net(), exclude=pattern) == names(Net(), exclude=[pattern, "mixing"]) == DEFAULT[:-1]

    def test_exclude_wins_over_scope(self):
        assert names(Net(), scope=["body", "head"], exclude=["body.conv1"]) == [
            "body.conv2.weight",
            "head.weight",
        ]

    def test_case_matters(self):
        with pytest.raises(ScopeError, match="scope pattern 'HEAD'"):
            find_scope(Net(), scope="HEAD")

    def test_own_parameter_only_by_its_exact_name(self):
        assert names(Net(), scope="mixing") == ["mixing"]
        with pytest.raises(
            ScopeError, match=r"'mix\*' matches only tensors such as 'mixing' that are .* exactly"
        ):
            find_scope(Net(), scope="mix*")

    @pytest.mark.parametrize("name", ["body.bn1.weight", "body.ln.weight", "head.bias", "gain", "body.bn1"])
    def test_norms_biases_and_vectors_never(self, name):
        with pytest.raises(ScopeError, match=f"scope pattern '{name}' matches only .* are never pruned"):
            find_scope(Net(), scope=[name, "head"])

    @pytest.mark.parametrize(
        ("pattern", "hint"),
        [
            ("body.conv3.weight", "close names are body.conv[12].weight, "),
            ("heed", "close names are head"),
            ("type:conv2d", "close names are Conv2d"),
            (nn.Conv3d, "Conv3d matches nothing; close names are Conv2d"),
            ("re:zzzz", "names here are mixing, gain, tokens.weight, ..."),
            ("hea.+", "close names are head"),
        ],
    )
    @pytest.mark.parametrize("role", ["scope", "exclude"])
    def test_matches_nothing(self, role, pattern, hint):
        with pytest.raises(ScopeError, match=f"^{role} pattern .* matches nothing; ") as error:
            find_scope(Net(), **{role: ["head", pattern]})
        assert fnmatch.fnmatchcase(str(error.value), f"{role} pattern *{hint}*")

    @pytest.mark.parametrize("role", ["scope", "exclude"])
    def test_malformed(self, role):
        with pytest.raises(
            ScopeError, match=rf"{role} pattern 're:\(' is not a valid regular expression: missing"
        ):
            find_scope(Net(), **{role: "re:("})
        for pattern in (3, [nn.Linear(2, 2)], [""], int, [None]):
            with pytest.raises(ScopeError, match=f"{role} pattern .* is not valid; give the name of"):
                find_scope(Net(), **{role: pattern})

    def test_empty_results(self):
        with pytest.raises(ScopeError, match="exclude takes away every tensor in scope"):
            find_scope(Net(), scope="head", exclude="type:Linear")
        with pytest.raises(ScopeError, match="scope is empty; leave it out to take every prunable tensor"):
            find_scope(Net(), scope=[])


class TestOwnParameters:
    @pytest.fixture
    def net(self):
        cell = nn.Module()
        cell.W1, cell.U1 = (nn.Parameter(torch.ones(3, columns)) for columns in (9, 80))
        cell.weight = nn.Parameter(torch.ones(3, 3))
        cell.bias_gate = nn.Parameter(torch.ones(1, 80))
        return nn.ModuleDict({"cell": cell, "norm": nn.LayerNorm([2, 3]), "token_emb": nn.Embedding(4, 3)})

    def test_a_glob_that_ends_in_their_name_reaches_them(self, net):
        assert names(net, scope=["*.W1", "*.U1"]) == ["cell.W1", "cell.U1"]
        assert names(net, scope=["cell.W1", "c*.U1"]) == ["cell.W1", "cell.U1"]
        assert names(net.state_dict(), scope=["*.W1", "*.U1"]) == ["cell.W1", "cell.U1"]

    @pytest.mark.parametrize("pattern", ["cell", "cell.*", "*1", "*.[WU]1", r"re:\.W1$"])
    def test_wider_patterns_do_not(self, net, pattern):
        with pytest.raises(ScopeError, match=r"only when named exactly, or by a glob that ends in their own"):
            find_scope(net, scope=pattern)

    def test_the_name_weight_says_too_little(self, net):
        """It would take in embeddings and norms, and the layers of others."""
        with pytest.raises(ScopeError, match=r"'\*\.weight' matches only"):
            find_scope(net, scope="*.weight")
        assert names(net.state_dict(), scope="*.weight") == ["cell.weight"]

    def test_biases_stay_out_of_reach(self, net):
        with pytest.raises(ScopeError, match=r"'cell\.bias_gate'; biases.* are never pruned"):
            find_scope(net, scope="*.bias_gate")
