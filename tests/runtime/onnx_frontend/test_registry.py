import pytest
from tests.runtime.onnx_frontend.nodes import onnx

from gpmt.runtime.onnx_frontend import operators  # noqa: F401 - fills the table
from gpmt.runtime.onnx_frontend.composites import GELU, LAYER_NORM
from gpmt.runtime.onnx_frontend.linear_layers import MERGED
from gpmt.runtime.onnx_frontend.node import Node
from gpmt.runtime.onnx_frontend.registry import OPERATORS, entry, is_quantised

OWN = {MERGED, GELU, LAYER_NORM}
"""What takes the place of several nodes."""


def made(operator, version=13, domain=""):
    return Node("n", operator, domain, 18, version, (), (), {})


def test_operators_are_known_in_their_versions():
    assert entry(made("Conv", 11)) is OPERATORS["Conv"]
    assert entry(made("Conv", 99)) is None
    assert entry(made("Conv", 11, "com.microsoft")) is None
    assert entry(made("Loop")) is None


def test_versions_are_those_of_onnx():
    history = {
        (one.name, one.since_version) for one in onnx.defs.get_all_schemas_with_history() if not one.domain
    }
    newest = max(version for _, version in history)
    for name, found in OPERATORS.items():
        if name not in OWN and not name.startswith("Reduce"):
            missing = {v for v in found.versions if (name, v) not in history and v <= newest}
            assert not missing, f"{name} has no version {missing}"


def test_from_opset_9_to_21_every_version_is_known():
    """What is translated at all is so in every definition that these opsets have."""
    for name, found in OPERATORS.items():
        if name in OWN:
            continue
        for opset in range(9, 22):
            try:
                schema = onnx.defs.get_schema(name, opset, "")
            except onnx.defs.SchemaError:
                continue
            assert schema.deprecated or schema.since_version in found.versions, (name, schema.since_version)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("QLinearConv", True),
        ("DequantizeLinear", True),
        ("ConvInteger", True),
        ("Conv", False),
        ("Loop", False),
    ],
)
def test_quantised_operators(operator, expected):
    assert is_quantised(made(operator)) is expected
