"""Every module of gpmt has its tests where its own place says: src/gpmt/a/b.py in tests/a/test_b.py."""

from pathlib import Path

import pytest

import gpmt

SOURCE = Path(gpmt.__file__).parent
TESTS = Path(__file__).parent

# Modules without a test file of their own, and why.
EXCEPTIONS = {
    "training/data/source": "a protocol; test_in_memory_source.py and test_file_source.py test what fulfils it",
}
# Parts of gpmt whose tests are still to be put at their own places.
NOT_YET_MIRRORED = ("runtime/",)


def has_tests(name: str) -> bool:
    """Whether a module a/b has tests: a/test_b.py, several files a/test_b_*.py, or a folder a/b."""
    place = TESTS / name
    files = [*place.parent.glob(f"test_{place.name}.py"), *place.parent.glob(f"test_{place.name}_*.py")]
    return bool(files) or any(place.glob("test_*.py"))


MODULES = sorted(
    str(path.relative_to(SOURCE).with_suffix(""))
    for path in SOURCE.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
    and not str(path.relative_to(SOURCE)).startswith(NOT_YET_MIRRORED)
)


@pytest.mark.parametrize("name", [name for name in MODULES if name not in EXCEPTIONS])
def test_a_module_has_tests_at_its_own_place(name: str):
    assert has_tests(name), f"src/gpmt/{name}.py has no tests/{Path(name).parent}/test_{Path(name).name}.py"


def test_exceptions_are_needed():
    assert EXCEPTIONS.keys() <= {name for name in MODULES if not has_tests(name)}
