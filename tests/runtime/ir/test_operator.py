"""The table of operators is complete: each field of each operator has a kind, is saved, and is read again."""

import json
import pkgutil
from dataclasses import MISSING, dataclass, fields

import numpy as np
import pytest
from tests.runtime.ir.examples import EXAMPLES, graph_of

from gpmt.runtime.ir import operators
from gpmt.runtime.ir.fields import INPUT, OUTPUT, PAIR
from gpmt.runtime.ir.operator import (
    OPERATORS,
    Operator,
    define,
    entry_of,
    reads,
    renamed,
    with_own_arrays,
    writes,
)
from gpmt.runtime.ir.serialization import read, write
from gpmt.runtime.ir.torch_calls import TorchCalls
from gpmt.runtime.ir.torch_calls_encoding import encode_calls

ALL = [kind for kind in Operator.__subclasses__() if kind.__module__.startswith("gpmt.")]
FIELDS = [(kind, field.name) for kind in ALL for field in fields(kind)]
IDS = [f"{kind.__name__}.{field}" for kind, field in FIELDS]


@pytest.fixture
def toy():
    """Return an operator that is not in the table, and take it out again if the test puts it there."""

    @dataclass(frozen=True)
    class Toy(Operator):
        input: str
        output: str
        factor: tuple[int, int] = (1, 1)

    yield Toy
    OPERATORS.pop(Toy, None)


def same(one, other):
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, TorchCalls):
        return encode_calls(one) == encode_calls(other) is not None
    return one == other


def saved(operator, shapes):
    """Return the document and the tensors of a graph of one operator, by way of JSON."""
    document, tensors = write(graph_of(operator, shapes))
    return json.loads(json.dumps(document, allow_nan=False)), tensors


def test_every_operator_has_an_entry_and_an_example():
    assert {kind.__name__ for kind in ALL} == {kind.__name__ for kind in OPERATORS}
    assert {kind.__name__ for kind in ALL} == {kind.__name__ for kind in EXAMPLES}
    assert {kind.__name__ for kind in ALL} <= {*operators.__all__}


def test_every_file_of_operators_is_imported():
    files = {f"{operators.__name__}.{module.name}" for module in pkgutil.iter_modules(operators.__path__)}
    assert files == {kind.__module__ for kind in ALL}


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=IDS)
def test_every_field_is_saved(kind, field):
    """An example has no field at its default, which documents leave out."""
    operator, shapes = EXAMPLES[kind]
    default = next(f.default for f in fields(kind) if f.name == field)
    value = getattr(operator, field)
    unlike = default is MISSING or isinstance(value, np.ndarray) or value != default
    assert unlike, f"{kind.__name__}.{field} is its default"
    (entry,) = saved(operator, shapes)[0]["operators"]
    assert field in entry, f"{kind.__name__}.{field} is not saved"


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=IDS)
def test_every_field_is_read_again(kind, field):
    operator, shapes = EXAMPLES[kind]
    (again,) = read(*saved(operator, shapes)).operators
    assert type(again) is kind
    assert same(getattr(operator, field), getattr(again, field)), (
        f"{kind.__name__}.{field} is read as another value"
    )


@pytest.mark.parametrize("kind", ALL)
def test_reading_and_writing_names_what_the_example_names(kind):
    operator, shapes = EXAMPLES[kind]
    assert {*reads(operator), *writes(operator)} == {*shapes}
    assert writes(operator) == ("y",)
    other = renamed(operator, {"x": "first", "z": "second", "y": "not an input"})
    assert reads(other) == tuple({"x": "first", "z": "second"}.get(name, name) for name in reads(operator))
    assert writes(other) == ("y",)
    assert renamed(operator, {"y": "other"}) is operator


def test_an_operator_that_is_not_in_the_table_cannot_be_saved(toy):
    operator = toy("x", "y", (1, 2))
    with pytest.raises(TypeError, match="Toy is not in the table of operators; call define for it"):
        entry_of(operator)
    graph = graph_of(*EXAMPLES[operators.Reshape])
    graph.operators[:] = [operator]
    with pytest.raises(TypeError, match="Toy is not in the table"):
        write(graph)


def test_an_entry_names_all_fields(toy):
    with pytest.raises(TypeError, match="Toy has a field 'factor' without a kind; add it to its entry"):
        define(toy, fields={"input": INPUT, "output": OUTPUT}, shape=None)
    kinds = {"input": INPUT, "output": OUTPUT, "factor": PAIR}
    with pytest.raises(TypeError, match="Toy has no field 'scale'; remove it from its entry"):
        define(toy, fields={**kinds, "scale": PAIR}, shape=None)
    with pytest.raises(TypeError, match="two operators are called 'Conv' in documents; rename one"):
        define(toy, fields=kinds, shape=None, name="Conv")
    assert toy not in OPERATORS
    define(toy, fields=kinds, shape=None)
    assert reads(toy("x", "y")) == ("x",)


def test_arrays_are_copied_where_they_are_views():
    conv, _ = EXAMPLES[operators.Conv]
    view = type(conv)("x", "y", conv.weight[:], conv.bias)
    own = with_own_arrays(view)
    assert not np.shares_memory(own.weight, conv.weight)
    assert own.bias is conv.bias
    assert np.array_equal(own.weight, conv.weight)
