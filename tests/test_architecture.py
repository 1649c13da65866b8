"""The direction of the arrows: a module imports only from those before it, and `import gpmt` stays light."""

import ast
import re
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
    "warning",
    "arithmetic",
    "temporary",
    "atomic",
    "system",
    "extras",
    "suggestions",
    "report.palette",
    "html_tables",
    "report.content.subject",
    "report.content.grid",
    "report.content.pareto",
    "report.content.report",
    "report.content.sensitivity",
    "report.figures",
    "model_tools",
    "core.missing_data",
    "core.shards",
    "core.memory",
    "core.keys",
    "core.layers",
    "core.patterns",
    "core.budget",
    "core.blocks",
    "core.scope",
    "core.selection",
    "core.soft",
    "core.units",
    "core.schedule",
    "core.compare",
    "formats.sorted_header",
    "formats.masks",
    "masks",
    "allocations",
    "macs",
    "planning",
    "formats",
    "formats.importers",
    "formats.load",
    "prune",
    "pruner",
    "calibration",
    "compensation",
    "recalibration",
    "scores",
    "integrations",
    "formats.exporters",
    "runtime.ir",
    "runtime.onnx_frontend",
    "runtime.frontend",
    "runtime.passes",
    "runtime.layout",
    "runtime.codegen",
    "runtime.machine_code",
    "runtime.kernels",
    "runtime.lowering",
    "runtime.threads",
    "runtime.execution",
    "runtime.store",
    "runtime.dynamic_batch",
    "runtime.program",
    "runtime.dynamo_backend",
    "counting",
    "reachability",
    "planning.what_if",
    "verification_runs",
    "verification_groups",
    "verification",
    "runs",
    "terminal",
    "report.content",
    "report.tables",
    "report.page",
    "report",
    "sensitivities",
    "training.data",
    "training.models",
    "training.recipes",
    "training.weights",
    "training.run",
    "training.run.loop",
    "training.run.setup",
    "training.run.pruning",
    "training.run.phase",
    "training.run.trackers",
    "training.run.experiment",
    "training.run.metrics",
    "training.run.preview",
    "training.run.run",
    "training.evaluation",
    "training.sweep",
    "training.compare",
    "demo",
    "demo_report",
    "cli",
]
MODULES = sorted(ROOT.rglob("*.py"))
FACES = {"", "core", "runtime", "training"}
"""Packages whose `__init__` is a docstring, or hands names on."""
WITH_PRIVATE_NAMES = {
    "torch_private",
    "extras_private",
    "runtime.codegen.llvmlite_private",
    "runtime.threads.locks",
}
"""Modules that use private names of other libraries; the tests of each look its names up."""


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


def is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.endswith("__") for part in name.split("."))


def foreign_private_names(path: Path) -> set[str]:
    """Return the private names in a file that it does not define: imported, read as attributes or by `getattr`."""
    own, used = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                own.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                own.add(name)
            case ast.Attribute(attr=name):
                used.add(name)
            case ast.Import(names=aliases):
                used |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=module, names=aliases):
                used |= {f"{module}.{alias.name}" for alias in aliases}
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=[_, ast.Constant(value=name), *_]
            ):
                used.add(name)
    return {name for name in used - own if is_private(name)}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITH_PRIVATE_NAMES])
def test_private_names_of_others_have_their_modules(name: str):
    found = foreign_private_names(NAMES[name])
    assert not found, f"{name} uses {sorted(found)}; put them into one of {sorted(WITH_PRIVATE_NAMES)}"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from torch._ops import OpOverload", "torch._ops.OpOverload"),
        ("from torch.utils import _pytree", "torch.utils._pytree"),
        ("import torch._dynamo", "torch._dynamo"),
        ("base = torch.nn.modules.conv._ConvNd", "_ConvNd"),
        ("count = tensor._version", "_version"),
        ("inner = getattr(model, '_orig_mod', None)", "_orig_mod"),
    ],
)
def test_private_names_of_others_are_found(tmp_path: Path, line: str, name: str):
    path = tmp_path / "module.py"
    path.write_text(f"{line}\ndef _own(): return one._own, torch.__version__\n")
    assert foreign_private_names(path) == {name}


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
    """As Ruff sorts them: capitals, then classes, then functions."""
    assert gpmt.__all__ == sorted(
        gpmt.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    assert all(hasattr(gpmt, name) for name in gpmt.__all__)


DOCUMENT = (ROOT.parents[1] / "ARCHITECTURE.md").read_text()
PATHS = {name for name in re.findall(r"`([\w./]+)`", DOCUMENT) if name.endswith((".py", "/"))} - {"src/gpmt/"}


@pytest.mark.parametrize("path", sorted(PATHS))
def test_the_document_names_what_there_is(path: str):
    assert (ROOT / path).exists() or (ROOT.parents[1] / path).exists()


def test_the_document_names_every_part():
    parts = {path.relative_to(ROOT) for path in MODULES if path.name != "__init__.py"}
    named = {Path(path) for path in PATHS}
    missing = {str(part) for part in parts if not named & {part, *part.parents}} - {"__main__.py"}
    assert not missing
