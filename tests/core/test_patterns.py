"""How patterns choose among tensors."""

import fnmatch

import pytest
import torch
from torch import nn

from gpmt.core.scope.scope import find_scope
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

    def test_own_parameter_by_what_matches_no_layer(self):
        assert names(Net(), scope="mixing") == names(Net(), scope="mix*") == ["mixing"]
        assert names(Net(), scope="*i*") == ["body.conv1.weight", "body.conv2.weight", "head.weight"]

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

    @pytest.mark.parametrize("pattern", ["cell", "cell.*", "*1", "*.[WU]1", r"re:\.W1$", "*.weight"])
    def test_wider_patterns_do_where_they_match_no_layer(self, net, pattern):
        found = names(net, scope=pattern)
        assert found == [name for name in found if name.startswith("cell.")] != []
        net["layer"] = nn.Linear(3, 3)
        assert names(net, scope=["layer", pattern]) == [*found, "layer.weight"] or pattern == "*.weight"
        assert names(net, scope="*") == names(net, scope="*.weight") == ["layer.weight"]
        assert names(net.state_dict(), scope="*.weight") == ["cell.weight", "layer.weight"]

    def test_biases_stay_out_of_reach(self, net):
        with pytest.raises(ScopeError, match=r"'cell\.bias_gate'; biases.* are never pruned"):
            find_scope(net, scope="*.bias_gate")


class GCNConv(nn.Module):
    """A layer of a class that is not known, as graph libraries have, with a norm and a list of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = Lin()
        self.scales = nn.ParameterList([torch.ones(2, 3), torch.ones(3)])
        self.parts = nn.ParameterDict({"left": torch.ones(3, 2), "bias": torch.ones(3, 2)})
        self.norm = nn.LayerNorm([2, 2])


class Lin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4))
        self.bias = nn.Parameter(torch.ones(1, 4))


class CosineNormLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))


class TestUnknownClasses:
    @pytest.fixture
    def net(self):
        return nn.ModuleDict({"one": GCNConv(), "two": GCNConv(), "cosine": CosineNormLinear()})

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("type:Lin", ["one.lin.weight", "two.lin.weight"]),
            (Lin, ["one.lin.weight", "two.lin.weight"]),
            ("type:ParameterList", ["one.scales.0", "two.scales.0"]),
            (nn.ParameterDict, ["one.parts.left", "two.parts.left"]),
            ("type:CosineNormLinear", ["cosine.weight"]),
            ("*.lin.weight", ["one.lin.weight", "two.lin.weight"]),
            ("one.lin", ["one.lin.weight"]),
            ("*.scales.*", ["one.scales.0", "two.scales.0"]),
            ("two.parts", ["two.parts.left"]),
            ("re:parts", ["one.parts.left", "two.parts.left"]),
            ("one", ["one.lin.weight", "one.scales.0", "one.parts.left"]),
        ],
    )
    @pytest.mark.parametrize("beside", [False, True])
    def test_by_glob_and_by_type(self, net, pattern, expected, beside):
        if beside:
            net["layer"] = nn.Linear(2, 2)
        assert names(net, scope=pattern) == expected

    def test_a_type_takes_known_and_unknown_layers_of_its_name(self):
        linear = type("Linear", (Lin,), {})
        net = nn.Sequential(nn.Linear(2, 2), linear())
        assert names(net) == ["0.weight"]
        assert names(net, scope="type:Linear") == ["0.weight", "1.weight"]

    def test_a_class_of_known_layers_takes_their_weight_only(self):
        class Scaled(nn.Conv2d):
            def __init__(self) -> None:
                super().__init__(2, 2, 1)
                self.gain = nn.Parameter(torch.ones(2, 1, 1, 1))

        assert names(nn.Sequential(Scaled()), scope="type:Scaled") == ["0.weight"]

    def test_the_refusal_says_how(self, net):
        with pytest.raises(ScopeError) as error:
            find_scope(net)
        assert str(error.value) == (
            "ModuleDict has no prunable tensor, such as the weight of a convolution; weights of other classes have "
            "to be named, such as one.lin.weight: scope=\"type:Lin\", scope='one.lin.weight' or a glob"
        )
        with pytest.raises(ScopeError) as error:
            find_scope({"w": torch.ones(2, 2)})
        assert str(error.value) == (
            "the state_dict has no prunable tensor: a floating weight of two or more dimensions whose name ends in "
            "\"weight\"; others have to be named, such as scope='w' (--scope w)"
        )

    @pytest.mark.parametrize("role", ["scope", "exclude"])
    def test_a_class_without_its_prefix(self, role):
        with pytest.raises(
            ScopeError, match=f"{role} pattern 'Conv2d' matches nothing; for the layers of this class "
        ):
            find_scope(Net(), **{role: "Conv2d"})


def test_nothing_to_exclude_may_be_none():
    assert names(Net(), exclude=None) == DEFAULT
