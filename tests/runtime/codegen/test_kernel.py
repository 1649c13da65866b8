"""Compiled code of kernels: equal code is compiled once, and depends on the source files that generate it."""

import ctypes
from dataclasses import dataclass
from typing import ClassVar

import pytest

from gpmt.runtime.codegen import jit
from gpmt.runtime.codegen import kernel as kernel_module
from gpmt.runtime.codegen.kernel import KernelSpec, load, sources


@dataclass(frozen=True)
class Code:
    number: int

    def emit(self):
        EMITTED.append(self.number)
        return f"define i64 @kernel(i64* %a, i64 %i) {{ ret i64 {self.number} }}"


@dataclass(frozen=True)
class Spec(KernelSpec):
    """A kernel whose code does not depend on the number of items."""

    ARGS: ClassVar[tuple[str, ...]] = ()

    number: int
    items: int = 1

    @property
    def code(self):
        return Code(self.number)


EMITTED: list[int] = []


def result(address):
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(address)(None, 0)


def test_equal_code_is_compiled_once():
    EMITTED.clear()
    addresses = [load(Spec(1001, items)) for items in (1, 2, 3)]
    assert len(set(addresses)) == 1
    assert len(EMITTED) <= 1  # none if it is in the cache
    assert result(load(Spec(1002, 1))) == 1002
    assert result(addresses[0]) == 1001


@pytest.fixture
def keys(monkeypatch):
    """Return the list of keys under which code is looked up; nothing is compiled."""
    found = []
    monkeypatch.setattr(jit, "load", lambda source, make: found.append(source) or 0)
    yield found
    sources.cache_clear()
    kernel_module._digest.cache_clear()


def test_the_key_depends_on_all_files_that_generate_kernels(keys, monkeypatch):
    """A change of any file in codegen, kernels and layout, and in the kernel's own, changes the key."""
    read = kernel_module.Path.read_bytes
    runtime = kernel_module.Path(kernel_module.__file__).parents[1]
    files = [
        runtime / "codegen" / "shuffles.py", runtime / "kernels" / "copy.py", runtime / "layout" / "planes.py",
        runtime / "kernels" / "shared" / "tiled_conv.py", runtime.parent / "arithmetic.py",
        kernel_module.Path(__file__),
    ]  # fmt: skip
    load(Spec(5, 1))
    for changed in files:
        sources.cache_clear()
        kernel_module._digest.cache_clear()
        monkeypatch.setattr(
            kernel_module.Path, "read_bytes", lambda path, f=changed: read(path) + b"#" * (path == f)
        )
        load(Spec(5, 1))
    assert len(set(keys)) == 1 + len(files)


@dataclass(frozen=True)
class Pair(Spec):
    ARGS: ClassVar[tuple[str, ...]] = ("left", "right", "mask")
    OPTIONAL_ARGS: ClassVar[tuple[str, ...]] = ("mask",)


def test_arguments_in_the_kernels_order():
    assert Pair(1, 1).in_order({"right": 2, "left": 1}) == [1, 2, None]
    assert Pair(1, 1).in_order({"mask": 3, "right": 2, "left": 1}) == [1, 2, 3]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"left": 1}, r"^Pair lacks the arguments \['right'\] and does not take \[\]$"),
        (
            {"left": 1, "right": 2, "scale": 3},
            r"^Pair lacks the arguments \[\] and does not take \['scale'\]$",
        ),
    ],
)
def test_arguments_that_are_missing_or_unknown_are_refused(given, sentence):
    with pytest.raises(TypeError, match=sentence):
        Pair(1, 1).in_order(given)
