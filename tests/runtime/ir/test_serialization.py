"""Documents of saved programs: everything in them is checked."""

import json
from contextlib import suppress
from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.runtime.networks import noise
from tests.runtime.saved_programs import INPUTS, opened

from gpmt.errors import CheckpointError, RuntimeProgramError
from gpmt.formats.sparse.reader import SparseFile
from gpmt.formats.sparse.writer import save_sparse
from gpmt.runtime.store import KEY


def rewritten(path, change, target):
    """Write a file again with its document changed in place, or replaced by what `change` returns."""
    with SparseFile(path) as file:
        document, tensors = json.loads(file.metadata[KEY]), file.load()
    changed = change(document)
    text = json.dumps(document if changed is None else changed)
    save_sparse(tensors, target, metadata={KEY: text})
    return target


def find(document, op, **fields):
    return next(
        entry
        for entry in document["graph"]["operators"]
        if entry["op"] == op and all(entry.get(key) == value for key, value in fields.items())
    )


def value(document, name):
    return next(entry for entry in document["graph"]["values"] if entry[0] == name)


def put(entry, key, new):
    entry[key] = new


WRONG = {
    "version": (lambda d: put(d, "version", 2), "has a program of version 2, but this gpmt reads version 1"),
    "parts": (lambda d: put(d, "code", ""), "other parts than arguments"),
    "arguments": (lambda d: d["arguments"].append("third"), "has 3 arguments, but 2 inputs"),
    "twice": (lambda d: put(d["positional"], 1, "inputs_0"), "for the names of arguments"),
    "results": (lambda d: put(d, "result", {"tuple": ["tensor"]}), "has 1 results, but 4 outputs"),
    "form": (lambda d: put(d, "result", {"namedtuple": []}), "for the structure of its result"),
    "dtype": (
        lambda d: put(d["graph"]["values"][0], 1, "quint8"),
        "for a value, not its name, type and shape",
    ),
    "size": (lambda d: put(d["graph"]["values"][0][2], 0, -1), "has -1 for a size of inputs_0"),
    "input": (
        lambda d: put(d["graph"]["values"][0], 0, "other"),
        "has an input 'inputs_0' without a type and shape",
    ),
    "huge": (lambda d: put(d["graph"]["values"][0], 2, [1 << 39] * 4), "which no memory holds"),
    "memory": (lambda d: put(value(d, "inputs_0")[2], 0, 1 << 36), "bytes of memory, more than the"),
    "padding": (
        lambda d: put(find(d, "Conv"), "padding", [1 << 36, 0, 1 << 36, 0]),
        "its input with padding would take",
    ),
    "shape": (
        lambda d: put(value(d, find(d, "Conv")["output"])[2], 2, 5),
        "has the shape [2, 8, 5, 5], but is made",
    ),
    "stride": (lambda d: put(find(d, "Conv"), "stride", [0, 1]), "has 0 for a stride"),
    "groups": (lambda d: put(find(d, "Conv", groups=8), "groups", 4), "its weights do not fit its input"),
    "window": (lambda d: put(find(d, "Conv"), "dilation", [50, 50]), "its window is larger than its input"),
    "far": (lambda d: put(find(d, "Pool"), "stride", [1, 1 << 20]), "has the shape"),
    "wide": (lambda d: put(find(d, "Pool"), "kernel", [1, 65]), "its window is larger than its input"),
    "nothing": (
        lambda d: put(find(d, "Pool", kind="mean"), "padding", [1, 1, 3, 1]),
        "one of its windows is outside of its input",
    ),
    "weight": (
        lambda d: put(find(d, "Conv"), "weight", "none"),
        "needs the tensor 'none', which is not there",
    ),
    "other weight": (
        lambda d: put(find(d, "Linear"), "weight", "head.bias"),
        "its weights do not fit its input",
    ),
    "activation": (
        lambda d: put(find(d, "Conv"), "activation", ["softsign"]),
        "has ['softsign'] for an activation",
    ),
    "bounds": (
        lambda d: put(find(d, "Conv"), "activation", ["clamp", 1, 0]),
        "has ['clamp', 1, 0] for an activation",
    ),
    "bound": (
        lambda d: put(find(d, "Conv"), "activation", ["clamp", 0, 1e300]),
        "has 1e+300 for a bound",
    ),
    "kind": (lambda d: put(find(d, "Conv"), "op", "Exec"), "its kind is 'Exec'"),
    "field": (lambda d: put(find(d, "Conv"), "code", "x"), "Conv has no 'code'"),
    "lacks": (lambda d: find(d, "Conv").pop("weight") and None, "Conv lacks its weight"),
    "order": (lambda d: d["graph"]["operators"].reverse(), "before that is made"),
    "again": (
        lambda d: d["graph"]["operators"].append(d["graph"]["operators"][0]),
        "which is unknown or there already",
    ),
    "unmade": (lambda d: d["graph"]["values"].append(["new", "float32", [1]]), "nothing makes: 'new'"),
    "channels": (lambda d: put(find(d, "Slice"), "first", 5), "its input has fewer channels"),
    "factor": (lambda d: put(find(d, "Upsample"), "factor", [3, 2]), "there is no kernel for its factor"),
    "gate": (
        lambda d: put(find(d, "Multiply"), "right", find(d, "Concat")["parts"][0]),
        "its factor does not fit its input",
    ),
    "no parts": (lambda d: put(find(d, "Concat"), "parts", []), "has no parts"),
    "outputs": (lambda d: put(d["graph"]["outputs"], 0, "nowhere"), "returns 'nowhere', which nothing makes"),
    "constant": (lambda d: put(d["graph"]["constants"], "table", "head.bias"), "of another shape or type"),
    "operator": (
        lambda d: put(find(d, "PyTorch")["calls"]["calls"][0], 0, "aten.from_file.default"),
        "only public operators of aten, prims, torchvision may be called",
    ),
    "namespace": (
        lambda d: put(find(d, "PyTorch")["calls"]["calls"][0], 0, "os.system.default"),
        "only public",
    ),
    "reads": (lambda d: put(find(d, "PyTorch")["calls"]["inputs"], 0, "nowhere"), "reads '"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_documents_are_refused(tmp_path, saved_program, case):
    change, message = WRONG[case]
    path = rewritten(saved_program[1], change, tmp_path / "wrong.program.safetensors")
    with pytest.raises(CheckpointError) as caught:
        opened(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith("; write it again")


def test_text_that_is_no_document(tmp_path):
    for text in ("", "[]", "{", "null", '{"version": 1}', "[" * 100_000, '{"version":1' + ',"a":{' * 50_000):
        save_sparse({"a": noise(3)}, tmp_path / "x", metadata={KEY: text})
        with pytest.raises(CheckpointError, match="write it again"):
            opened(tmp_path / "x")


def test_calls_that_make_something_else_are_stopped(tmp_path, saved_program):
    """Kernels behind them would read past the end of what they made."""

    def change(document):
        entry = find(document, "PyTorch")
        made = next(v for v in document["graph"]["values"] if v[0] == entry["calls"]["outputs"][0])
        made[2][-1] += 1

    again = opened(rewritten(saved_program[1], change, tmp_path / "x"))
    with pytest.raises(
        RuntimeProgramError, match=r"does not make \w+ as torch.float32 .*; compile the network again"
    ):
        again(*INPUTS)


def test_calls_that_fail_say_so(tmp_path, saved_program):
    def change(document):
        call = next(c for c in find(document, "PyTorch")["calls"]["calls"] if "softmax" in c[0])
        call[1][1] = 99

    again = opened(rewritten(saved_program[1], change, tmp_path / "x"))
    with pytest.raises(RuntimeProgramError, match=r"softmax on PyTorch .* fails: Dimension out of range"):
        again(*INPUTS)


def places(tree, path=()):
    yield path
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in entries:
        yield from places(part, (*path, key))


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 1 << 45),
    st.floats(),
    st.sampled_from(
        ["", "x", "conv2d", "first.weight", "Conv", "PyTorch", "inf", [], {}, [1, 1], [0, 0, 0, 0]]
    ),
)


# The same changes every time: a change of an operator's arguments can crash PyTorch itself, and with it all tests.
@settings(
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_changed_document_opens_or_is_refused(tmp_path, saved_program, data):
    def change(document):
        for _ in range(data.draw(st.integers(1, 2))):
            *path, last = data.draw(st.sampled_from([p for p in places(document) if p]))
            table = document
            for key in path:
                table = table[key]
            if data.draw(st.booleans()):
                table[last] = deepcopy(data.draw(JUNK))
            elif isinstance(table, dict):
                del table[last]
            else:
                table.insert(last, deepcopy(table[data.draw(st.integers(0, len(table) - 1))]))

    path = rewritten(saved_program[1], change, tmp_path / "x")
    # What opens may still fail in PyTorch, but with a sentence.
    with suppress(CheckpointError, RuntimeProgramError):
        opened(path)(*INPUTS)
