"""Every module of gpmt has its tests where its own place says: src/gpmt/a/b.py in tests/a/test_b.py."""

from pathlib import Path

import pytest

import gpmt

SOURCE = Path(gpmt.__file__).parent
TESTS = Path(__file__).parent

# Modules without a test file of their own, and why; a key that ends in "/" is a folder.
EXCEPTIONS = {
    "runtime/ir/values": "a dataclass and names of types",
    "runtime/machine_code/dialect": "an abstract class; test_straight_line.py tests all that fulfil it",
    "runtime/kernels/shared/": "code that several kernels share; each kernel's own tests compare it with an oracle",
    "runtime/onnx_frontend/evaluation": "runs one node, as the tests of every operator do",
    "runtime/onnx_frontend/node": "dataclasses",
    "runtime/onnx_frontend/operators": "imports the files of operators",
    "runtime/onnx_frontend/windows": "what convolutions and pooling share, whose tests compare with ONNX Runtime",
    "runtime/threads/claims": "LLVM IR of the driver, which test_driver.py and test_thread_pool.py run",
    "training/data/source": "a protocol; test_in_memory_source.py and test_file_source.py test what fulfils it",
}


MODULES = sorted(
    str(path.relative_to(SOURCE).with_suffix(""))
    for path in SOURCE.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)


def has_tests(name: str) -> bool:
    """Whether a module a/b has tests: a/test_b.py, several files a/test_b_*.py, or a folder a/b.

    A file a/test_b_c.py is one of a/b_c where there is such a module.
    """
    place = TESTS / name
    several = place.parent.glob(f"test_{place.name}_*.py")
    own = [
        file for file in several if f"{Path(name).parent / file.stem.removeprefix('test_')}" not in MODULES
    ]
    return place.with_name(f"test_{place.name}.py").exists() or bool(own) or any(place.glob("test_*.py"))


def is_excepted(name: str, key: str) -> bool:
    """Whether an exception is this module, or a folder that it is in."""
    return name.startswith(key) if key.endswith("/") else name == key


@pytest.mark.parametrize(
    "name", [name for name in MODULES if not any(is_excepted(name, key) for key in EXCEPTIONS)]
)
def test_a_module_has_tests_at_its_own_place(name: str):
    assert has_tests(name), f"src/gpmt/{name}.py has no tests/{Path(name).parent}/test_{Path(name).name}.py"


@pytest.mark.parametrize("key", EXCEPTIONS)
def test_an_exception_is_needed(key: str):
    assert any(is_excepted(name, key) and not has_tests(name) for name in MODULES)
