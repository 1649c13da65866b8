import pytest
from tests.private_names import attributes

from gpmt.runtime.codegen.llvmlite_private import library_lock

llvmlite = pytest.importorskip("llvmlite.binding")


def test_the_lock_of_llvmlite_exists() -> None:
    assert attributes("runtime/codegen/llvmlite_private") == {"_lock"}
    with library_lock():
        assert llvmlite.ffi.lib._lock is library_lock()
