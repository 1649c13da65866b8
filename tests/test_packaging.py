"""The versions that gpmt accepts are those that are tested: the lower bounds, and one set of newer ones."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEV = "dev"
"""The extra with the tools, which may be as new as in constraints.txt."""


def requirements(lines: list[str]) -> dict[str, Requirement]:
    read = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name): one for one in read if one.name != PROJECT["name"]}


def pins(file: str) -> dict[str, Version]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return {name: version(one, "==") for name, one in requirements([line for line in lines if line]).items()}


def version(requirement: Requirement, operator: str) -> Version:
    (found,) = [Version(one.version) for one in requirement.specifier if one.operator == operator]
    return found


def accepted() -> dict[str, Requirement]:
    """Return what gpmt itself imports, by name: its dependencies and those of all extras but the tools."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for name in extras if name != DEV for line in extras[name])]
    return requirements(lines)


def test_the_oldest_tested_versions_are_the_lower_bounds() -> None:
    oldest = pins("constraints-oldest.txt")
    bounds = {name: version(one, ">=") for name, one in accepted().items()}
    assert {name: oldest.get(name) for name in bounds} == bounds


def test_tools_are_the_same_with_the_oldest_versions() -> None:
    newest, oldest = pins("constraints.txt"), pins("constraints-oldest.txt")
    tools = requirements(PROJECT["optional-dependencies"][DEV])
    assert {name: oldest.get(name) for name in tools} == {name: newest[name] for name in tools}


def test_both_sets_of_versions_are_accepted() -> None:
    named = accepted() | requirements(PROJECT["optional-dependencies"][DEV])
    for file in ("constraints.txt", "constraints-oldest.txt"):
        tested = pins(file)
        refused = [name for name, one in named.items() if tested[name] not in one.specifier]
        assert not refused, f"{file}: {refused}"


IMPORT_NAMES = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "markdown_it": "markdown-it-py",
    "mlflow": "mlflow-skinny",
}
"""What packages are called by those who import them, where it is another name."""

BROUGHT = {"huggingface-hub", "pyarrow", "tokenizers"}
"""Which tests import, and another library cannot do without."""

SCRIPTS = {"compressed-tensors", "fastai", "fasterai", "nncf", "nni", "sparseml", "atheris", "deepsparse"}
"""What only scripts import that make the files of other tools, or are run beside them."""


def imports(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the packages, of other projects, that the Python files of a folder import, each with the file."""
    own = {path.stem for part in ("tests", "benchmarks") for path in (ROOT / part).rglob("*.py")} | {
        "gpmt",
        "tests",
    }
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - own:
                yield canonicalize_name(IMPORT_NAMES.get(name, name)), path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "examples"])
def test_what_is_imported_is_declared(folder: str) -> None:
    declared = accepted().keys()
    if folder != "src":
        declared |= requirements(PROJECT["optional-dependencies"][DEV]).keys() | BROUGHT | SCRIPTS
    assert {(name, path) for name, path in imports(folder) if name not in declared} == set()
