import json

import pytest

from gpmt.formats.stored_names import PREFIXES, common_prefix, read_names
from gpmt.torch_private import COMPILED


def test_the_prefix_of_compiled_networks_is_pytorchs():
    assert f"{COMPILED}." in PREFIXES


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["module.a", "module.b"], "module."),
        (["module._orig_mod.a"], "module._orig_mod."),
        (["module.a", "b"], ""),
        (["modules.a"], ""),
    ],
)
def test_a_prefix_is_one_of_all_names(names: list[str], prefix: str):
    assert common_prefix(names) == prefix


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"names": 1, "tied": {}}', '{"names": [], "tied": {"a": 1}}', "[" * 10_000]
)
def test_what_gpmt_did_not_write_is_passed_over(text: str):
    assert read_names(text) == {}


def test_what_gpmt_wrote_is_read():
    noted = {"names": ["b", "a"], "tied": {"a": "b"}}
    assert read_names(json.dumps(noted)) == noted
