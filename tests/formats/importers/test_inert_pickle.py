import io
import mmap
import pickle
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpmt.formats.importers.inert_pickle import Call, Global, InertError, Persistent, read_pickle

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner)
    ),
)


def read(data: bytes, *allowed: str, steps: int = 10_000) -> Any:
    return read_pickle(io.BytesIO(data), allowed, steps=steps)


@given(value=PLAIN, protocol=st.integers(3, 5))
def test_plain_values_come_as_pickle_reads_them(value: Any, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


def test_pickles_follow_each_other(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(pickle.dumps([1]) + pickle.dumps("two") + b"rest")
    with (tmp_path / "a").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        assert [read_pickle(content, (), steps=10) for _ in range(2)] == [[1], "two"]
        assert content.read() == b"rest"


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nothing_is_called(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    data = pickle.dumps([Attack(marker)], protocol)
    with pytest.raises(InertError, match=r"^it needs \S+$"):
        read(data)
    assert not marker.exists()
    pickle.loads(data)
    assert marker.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_calls_are_written_down(protocol: int) -> None:
    call = read(pickle.dumps(OrderedDict, protocol), "collections.OrderedDict")
    assert call == Global("collections.OrderedDict")
    array = np.array([1, 2], dtype=np.int16)
    module = type(array).__reduce__(array)[0].__module__
    names = [f"{module}._reconstruct", "numpy.ndarray", "numpy.dtype", "_codecs.encode"]
    call = read(pickle.dumps(array, protocol), *names)
    assert isinstance(call, Call)
    assert (call.name, call.args[:2]) == (names[0], (Global("numpy.ndarray"), (0,)))
    version, shape, dtype, fortran, raw = call.state
    assert (version, shape, fortran) == (1, (2,), False)
    assert (dtype.name, dtype.args[0], dtype.state[1]) == ("numpy.dtype", "i2", "<")
    if protocol == 2:  # which has no bytes, and writes down how to make them
        assert (raw.name, raw.args) == ("_codecs.encode", ("\x01\0\x02\0", "latin1"))
    else:
        assert raw == array.tobytes()
    with pytest.raises(InertError, match=rf"^it needs {names[0]}$"):
        read(pickle.dumps(array, protocol), *names[1:])


def test_what_is_stored_beside() -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", 3) if isinstance(obj, complex) else None

    file = io.BytesIO()
    Pickler(file, 2).dump([1j])
    (item,) = read(file.getvalue())
    assert isinstance(item, Persistent)
    assert item.key == ("storage", 3)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "it is damaged|it is cut short"),
        (b"\x80\x04", "it is damaged|it is cut short"),
        (b".", r"it is damaged \(IndexError\)"),
        (b"\xff.", r"it is damaged \(ValueError\)"),
        (b"t.", "it is damaged"),
        (b"h\x05.", r"it is damaged \(KeyError\)"),
        (b"(i__main__\nA\n.", "it uses the opcode INST, which is not read"),
        (b"cos\nsystem\n.", r"it needs os\.system"),
        (b"\x8c\x02os\x8c\x06system\x93.", r"it needs os\.system"),
        (b"\x8c\x02os)\x93.", "it has a global without a name"),
        (b"\x82\x01.", "it uses the opcode EXT1"),
        (b")\x81.", "it uses the opcode NEWOBJ"),
        (b")R.", "it is damaged"),
        (b"))R.", "it calls something that is not a function"),
        (b"ca\nb\nK\x01R.", "it calls something that is not a function"),
        (b"ca\nb\n}b.", "it sets the state of something that has none"),
        (b"K\x01K\x02a.", "it appends to something that is not a list"),
        (b"K\x01K\x02K\x03s.", "it sets entries of something that is not a dict"),
        (b"})K\x03s.", "it has a dict with keys that are not strings"),
        (b"\x8e" + (2**60).to_bytes(8, "little") + b"x.", "it is damaged"),
        (b"\x8d" + (2**60).to_bytes(8, "little") + b"x.", "it is damaged"),
        (b"B" + b"\xff" * 4 + b"x.", "it is damaged"),
        (b"r" + b"\xff" * 4 + b".", "it is damaged"),
        (b"N" * 10_001 + b".", "it takes too many steps"),
    ],
)
def test_damaged_and_hostile_pickles(data: bytes, sentence: str) -> None:
    with pytest.raises(InertError, match=f"^({sentence})"):
        read(data, "a.b")


def test_a_memo_far_out_takes_no_space() -> None:
    assert read(b"Nr\xff\xff\xff\xff.") is None


def test_nesting_costs_neither_time_nor_depth() -> None:
    doubled = b")" + b"q\x00h\x00\x86" * 200 + b"."
    assert isinstance(read(doubled), tuple)
    with pytest.raises(InertError, match="keys that are not strings"):
        read(b"}" + doubled[:-1] + b"Ns.")
    with pytest.raises(InertError, match="without a name"):
        read(doubled[:-1] + b"q\x01h\x01\x93.")


def test_damage_never_ends_in_another_exception() -> None:
    whole = pickle.dumps([{"a": (1, 2.5, "x", b"y")}, [None, True]] * 3, 4)
    rng, refused = random.Random(0), 0
    for _ in range(3000):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            read(bytes(damaged))
        except InertError:
            refused += 1
    assert refused > 500
