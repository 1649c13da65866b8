"""Methods by name, and what is not one."""

from __future__ import annotations

import pytest

from gpmt.errors import MethodError
from gpmt.pruner.methods.hard import Hard
from gpmt.pruner.methods.registry import method_of, methods_by_name


def test_every_method_is_found_by_its_name() -> None:
    assert methods_by_name()["hard"] is Hard
    assert list(methods_by_name()) == sorted(methods_by_name())


def test_a_method_is_taken_as_it_is() -> None:
    method = Hard()
    assert method_of(method) is method
    assert method_of("hard") == method


def test_settings_that_a_method_does_not_have_are_refused() -> None:
    with pytest.raises(MethodError, match="alpha is not a setting of the method hard; it has none"):
        method_of("hard", alpha=1)


def test_what_is_not_a_method_is_refused() -> None:
    with pytest.raises(MethodError, match="method is 'hrad', which is not known; did you mean hard"):
        method_of("hrad")
    with pytest.raises(MethodError, match="method is None, but must be a name, such as 'hard', or"):
        method_of(None)
