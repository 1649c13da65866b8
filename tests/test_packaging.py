"""The versions that gpmt accepts are those that are tested: the lower bounds, and one set of newer ones."""

import tomllib
from pathlib import Path

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
