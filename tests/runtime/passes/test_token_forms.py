"""Where tokens come from: values whose last dimension stays whole while the others move."""

import pytest
from tests.runtime.networks import Lambda, noise

from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.operators import Permute, Reshape
from gpmt.runtime.passes.rewriting import Rule, rewrite
from gpmt.runtime.passes.token_forms import token_form


def form_of(function, *shape):
    """Return the form of what a function of permutations and reshapes makes."""
    found = []

    def keep(rewriter, operator):
        rewriter.append(operator)
        found.append(token_form(rewriter, operator.output))
        return True

    graph = capture(Lambda(lambda s, x: function(x)), noise(*shape)).graph
    rewrite(graph, [Rule(Permute, keep), Rule(Reshape, keep)])
    return found[-1]


@pytest.mark.parametrize(
    ("function", "shape", "image", "tokens"),
    [
        (lambda x: x.transpose(0, 1), (2, 5, 6), False, ((5, 1), (2, 5))),
        (lambda x: x.flatten(0, 1), (2, 5, 6), False, ((10, 1),)),
        (lambda x: x.permute(0, 2, 3, 1), (2, 3, 4, 5), True, ((40, 1),)),
        (lambda x: x.flatten(2).transpose(1, 2), (2, 3, 4, 5), True, ((40, 1),)),
        (lambda x: x.permute(2, 0, 3, 1), (2, 3, 4, 5), True, ((4, 5), (2, 20), (5, 1))),
        (
            lambda x: x.view(2, 2, 3, 2, 3, 4).transpose(2, 3).reshape(8, 9, 4), (2, 6, 6, 4), False,
            ((4, 18), (2, 3), (3, 6), (3, 1)),
        ),
    ],
)  # fmt: skip
def test_tokens(function, shape, image, tokens):
    found = form_of(function, *shape)
    assert (found.source, found.image, found.tokens) == ("inputs_0", image, tokens)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: x.transpose(1, 2), (2, 5, 6)),
        (lambda x: x.view(2, 5, 3, 2).transpose(1, 2), (2, 5, 6)),
        (lambda x: x.flatten(1), (2, 5, 6)),
        (lambda x: x.flatten(1), (2, 5, 1, 1)),
    ],
)
def test_what_is_not_whole_tokens(function, shape):
    assert form_of(function, *shape) is None
