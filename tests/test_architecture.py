"""The direction of the arrows: a module imports only from those before it, and `import gpmt` stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gpmt

ROOT = Path(gpmt.__file__).parent

# Lowest first: a module imports only from its own part and from those above it in this list. A part is a module or a
# package with all that is in it, except for what is listed on its own.
ORDER = [
    "torch_private",
    "extras_private",
    "errors",
    "arithmetic",
    "atomic",
    "system",
    "extras",
    "suggestions",
    "model_tools",
    "core",
    "formats.masks",
    "masks",
    "allocations",
    "planning",
    "prune",
    "pruner",
    "integrations",
    "formats",
    "runtime.ir",
    "runtime.frontend",
    "runtime.passes",
    "runtime.layout",
    "runtime.codegen",
    "runtime.kernels",
    "runtime.lowering",
    "runtime.threads",
    "runtime.execution",
    "runtime.store",
    "runtime.dynamic_batch",
    "runtime.program",
    "runtime.dynamo_backend",
    "verification",
    "macs",
    "report",
    "training.data",
    "training.models",
    "training.recipes",
    "training.weights",
    "training.run",
    "training.evaluation",
    "training.sweep",
    "demo",
    "cli",
]
MODULES = sorted(ROOT.rglob("*.py"))
FACES = {"", "runtime", "training"}
"""Packages whose `__init__` is a docstring, or hands names on."""


def part(module: str) -> str:
    """Return the entry of `ORDER` that a module belongs to: the longest that is a prefix of its name."""
    names = module.split(".")
    prefixes = (".".join(names[:length]) for length in range(len(names), 0, -1))
    return next((prefix for prefix in prefixes if prefix in ORDER), "")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in MODULES}


def imported(path: Path) -> set[str]:
    """Return the modules of gpmt that a file imports, also inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "gpmt" and rest:
                found.add(rest if rest in NAMES else rest.rpartition(".")[0])
    return found - {""}


def test_every_module_has_its_place():
    homeless = {name for name in NAMES if not part(name)} - FACES - {"__main__"}
    assert not homeless
    assert {part(name) for name in NAMES} >= set(ORDER)


@pytest.mark.parametrize("name", [name for name in NAMES if part(name)])
def test_imports_point_backwards(name: str):
    place = ORDER.index(part(name))
    later = {other for other in imported(NAMES[name]) if ORDER.index(part(other)) > place}
    assert not later, f"{name} imports {sorted(later)}, which come after it"


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
