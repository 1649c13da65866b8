"""The direction of the arrows: a module imports only from those before it, and `import gpmt` stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gpmt

ROOT = Path(gpmt.__file__).parent

# Lowest first. A package stands for all its modules; within a package imports are free.
ORDER = [
    "errors",
    "atomic",
    "core",
    "prune",
    "pruner",
    "integrations",
    "formats",
    "runtime",
    "verification",
    "macs",
    "report",
    "training",
    "recipes",
    "demo",
    "cli",
]
MODULES = sorted(ROOT.rglob("*.py"))


def part(module: Path) -> str:
    return module.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(module: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(module.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "gpmt" and rest:
                parts.add(rest.split(".")[0])
    return {name for name in parts if name in ORDER}


def test_every_module_has_its_place():
    assert {part(module) for module in MODULES} - {"__init__", "__main__"} == set(ORDER)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_imports_point_backwards(module):
    place = part(module)
    if place in ("__init__", "__main__"):
        return
    later = {name for name in imported(module) if ORDER.index(name) > ORDER.index(place)}
    assert not later, f"{module.name} imports {sorted(later)}, which come after {place}"


def test_core_does_not_depend_on_what_is_around_it():
    for module in (ROOT / "core").glob("*.py"):
        assert imported(module) <= {"core", "errors", "atomic"}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_a_file_holds_one_idea(module):
    assert len(module.read_text().splitlines()) <= 400


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        (
            "import gpmt; gpmt.Pruner",
            ["safetensors", "typer", "rich", "pydantic", "accelerate", "torchvision", "sklearn"],
        ),
        (
            "import gpmt.cli",
            ["torch", "numba", "safetensors", "pydantic", "accelerate", "torchvision", "sklearn"],
        ),
    ],
)
def test_imports_stay_light(statement, heavy):
    code = f"import sys; {statement}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names_are_sorted_and_exist():
    assert gpmt.__all__ == sorted(gpmt.__all__)
    assert all(hasattr(gpmt, name) for name in gpmt.__all__)
