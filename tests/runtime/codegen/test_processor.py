"""Kinds of processors: typical ones by name, and the host's, which $GPMT_TARGET can restrict."""

import pytest
from tests.runtime.codegen.compiling_process import compile_in_process

from gpmt.runtime.codegen import processor


@pytest.mark.parametrize(("kind", "lanes"), [("avx512", 16), ("avx2", 8), ("neon", 4), ("plain", 4)])
def test_named_processors(kind, lanes):
    named = processor.named(kind)
    assert (named.kind, named.lanes) == (kind, lanes)


def test_the_environment_restricts_the_host(tmp_path):
    assert compile_in_process(tmp_path, GPMT_TARGET="plain")[2] == "plain"


@pytest.mark.parametrize("wanted", ["avx512", "neon", "nothing"])
def test_the_environment_does_not_extend_the_host(wanted, tmp_path):
    assert compile_in_process(tmp_path, GPMT_TARGET=wanted)[2] == processor.host().kind
