"""Arguments in any order and by name, and results of any structure."""

import collections
import re

import pytest
import torch
from tests.runtime.networks import Lambda, noise
from tests.runtime.reference import run
from torch import nn

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.frontend.capture import capture


class Named(nn.Module):
    def forward(self, image, ids=None, *, scale):
        return image * scale if ids is None else image * scale + ids


def test_arguments_by_name_and_place():
    image, scale, ids = noise(2, 3), noise(3), torch.arange(3)
    graph, signature = capture(Named(), {"image": image, "scale": scale})
    assert signature.arguments == ("image", "scale")
    for args, kwargs in [((), {"image": image, "scale": scale}), ((image,), {"scale": scale})]:
        assert torch.equal(signature.rebuild(run(graph, signature.flatten(args, kwargs))), image * scale)
    graph, signature = capture(Named(), {"scale": scale, "image": image, "ids": ids})
    assert signature.flatten((image, ids), {"scale": scale}) == [scale, image, ids]
    for args, kwargs, said in [
        ((image,), {"scale": scale}, "argument 0, scale"),
        ((image,), {"image": image, "scale": scale, "ids": ids}, "argument 0, image, scale, ids"),
        ((image, ids, scale), {}, "argument 0, argument 1, argument 2"),
        ((), {}, "nothing"),
    ]:
        text = f"compiled for the arguments scale, image, ids, but was called with {said}; give the same ones"
        with pytest.raises(RuntimeProgramError, match=re.escape(text)):
            signature.flatten(args, kwargs)


Pair = collections.namedtuple("Pair", "first second")


def test_results_of_any_structure():
    def function(s, x):
        return Pair({"a": x + 1, "n": None}, [x * 2, 3, "text", (True, 0.5)])

    x = noise(1, 2, 3, 3)
    graph, signature = capture(Lambda(function), x)
    result = signature.rebuild(run(graph, [x]))
    assert isinstance(result, Pair)
    assert torch.equal(result.first["a"], x + 1)
    assert result.first["n"] is None
    assert result.second[1:] == [3, "text", (True, 0.5)]
