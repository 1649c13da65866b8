"""`PlanOptions` types the options that the public functions pass on; all of them take the same ones."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import gpmt
from gpmt.planning.options import PlanOptions
from gpmt.planning.request import Request


@pytest.mark.parametrize(
    ("function", "own"), [(gpmt.plan, {"target", "sparsity"}), (Request, {"sparsities"})]
)
def test_the_options_are_the_arguments_of_what_takes_them(
    function: Callable[..., Any], own: set[str]
) -> None:
    arguments = set(inspect.signature(function).parameters)
    assert PlanOptions.__optional_keys__ <= arguments
    assert arguments - PlanOptions.__optional_keys__ == own
    assert not PlanOptions.__required_keys__
