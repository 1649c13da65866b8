import sys

import pytest
import torch
from torch import nn

from gpmt.errors import RecipeError
from gpmt.training.models import build, check_name, runs_own_code

SOURCE = """
from torch import nn


def tiny(num_classes, input_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0] * input_shape[1], num_classes))


def fixed():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))


class Bag(nn.Module):
    def __init__(self, *, num_classes):
        super().__init__()
        self.bag = nn.EmbeddingBag(10, num_classes)

    def forward(self, tokens):
        return self.bag(tokens)


def late(num_classes):
    import nets_of_mine_too

    return nets_of_mine_too.Net(12, num_classes)


def broken(num_classes):
    raise KeyError("width")


def nothing():
    return {"a": 1}


def demanding(depth):
    return nn.Linear(depth, 2)


constant = 3
"""


@pytest.fixture(autouse=True)
def _own_modules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_of_mine.py").write_text(SOURCE)
    (tmp_path / "nets_of_mine_too.py").write_text(
        "from torch import nn\n\nclass Net(nn.Sequential):\n    def __init__(self, i, o):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(i, o))\n"
    )
    (tmp_path / "nets_that_fail.py").write_text("import package_that_is_not_there\n")
    path = list(sys.path)
    yield
    assert sys.path == path
    for name in [name for name in sys.modules if name.startswith("nets_")]:
        del sys.modules[name]


def test_a_factory_in_the_current_folder_gets_what_it_names():
    network = build("nets_of_mine:tiny", num_classes=3, input_shape=(4, 3))
    assert network(torch.randn(2, 4, 3)).shape == (2, 3)
    assert build("nets_of_mine:fixed", num_classes=5, input_shape=(4, 3))[1].out_features == 5
    assert build("nets_of_mine:late", num_classes=3, input_shape=(4, 3))[1].out_features == 3
    assert runs_own_code("nets_of_mine:tiny")
    assert not runs_own_code("timm:resnet18")
    assert not runs_own_code("resnet20")


def test_a_class_is_a_factory_and_an_input_of_its_kind_can_be_given():
    tokens = torch.zeros(1, 6, dtype=torch.int64)
    network = build("nets_of_mine:Bag", num_classes=3, input_shape=(6,), inputs=tokens)
    assert isinstance(network, nn.Module)
    with pytest.raises(
        RecipeError, match="which does not fit the data: it does not run on an input of shape 6 "
    ):
        build("nets_of_mine:Bag", num_classes=3, input_shape=(6,))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "nets_of_yours:tiny",
            r"but there is no module nets_of_yours, installed or in .*; known are hf:FOLDER",
        ),
        ("nets_of_mine.deep:tiny", r"but there is no module nets_of_mine\.deep"),
        ("nets_of_mine:tine", r"but nets_of_mine has no factory 'tine'; did you mean tiny\?$"),
        (
            "nets_of_mine:constant",
            "but nets_of_mine has no factory 'constant'; known are Bag, broken, demanding, fixed, late",
        ),
        (
            "nets_that_fail:net",
            "but importing nets_that_fail raised ModuleNotFoundError: No module named 'package_",
        ),
    ],
)
def test_what_cannot_be_found_is_said_early(name, sentence):
    with pytest.raises(RecipeError, match=f"^model is {name}, {sentence}"):
        check_name(name)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nets_of_mine:broken", "which raised KeyError: 'width'; correct the factory"),
        (
            "nets_of_mine:demanding",
            r"which raised TypeError: demanding\(\) missing 1 required .*'depth'; correct",
        ),
        ("nets_of_mine:nothing", "which returned a dict; return an nn.Module"),
        (
            "nets_of_mine:fixed",
            "which does not fit the data: for two inputs it returns shape 2x5, but 3 classes need 2x3",
        ),
    ],
)
def test_what_a_factory_does_wrong_is_said(name, sentence):
    with pytest.raises(RecipeError, match=f"^model is {name}, {sentence}"):
        build(name, num_classes=3, input_shape=(4, 3))
