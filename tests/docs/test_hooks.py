"""The reference has every name, command and option; drawings are those of their script; links lead somewhere."""

import importlib.util
import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import typer
import yaml
from tests.docs.pages import ROOT

import gpmt
from gpmt.cli import app

HOOKS = ROOT / "docs" / "hooks"
COMMANDS = typer.main.get_command(app).commands


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"site_{path.stem}", path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


python_pages = module(HOOKS / "python_pages.py")
command_pages = module(HOOKS / "command_pages.py")
PAGES = command_pages.command_pages()


def test_every_public_name_is_in_the_reference() -> None:
    assert python_pages.ungrouped() == set()
    text = "\n".join(python_pages.python_pages().values())
    assert all(f"::: gpmt.{name}\n" in text for name in gpmt.__all__ if name != "scores")


def test_a_name_without_a_group_stops_the_build(monkeypatch) -> None:
    monkeypatch.setattr(gpmt, "__all__", [*gpmt.__all__, "new_name"])
    with pytest.raises(ValueError, match="new_name: in no group of the reference"):
        python_pages.python_pages()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_described_whole(name: str) -> None:
    page = PAGES[f"reference/commands/{name}.md"]
    options = [option for each in COMMANDS[name].params for option in each.opts if option.startswith("-")]
    assert [option for option in options if option not in page] == []
    assert "## Exit codes" in page
    assert "| 0 |" in page
    assert "| 2 |" in page
    assert f"[`gpmt {name}`]({name}.md)" in PAGES["reference/commands/index.md"]


def test_defaults_are_shown() -> None:
    assert "| `--tolerance <int>` | `0` |" in PAGES["reference/commands/verify.md"].replace(
        "INTEGER", "<int>"
    )


def test_no_cell_breaks_its_table() -> None:
    for page in PAGES.values():
        tables = [line for line in page.splitlines() if line.startswith("| `")]
        assert all(line.replace(r"\|", "").count("|") in (3, 4) for line in tables)


def test_drawings_are_those_of_the_script() -> None:
    drawings = module(ROOT / "docs" / "drawings" / "draw.py").DRAWINGS
    folder = ROOT / "docs" / "drawings"
    assert {path.stem: path.read_text() for path in folder.glob("*.svg")} == {
        name: draw() for name, draw in drawings.items()
    }


def test_a_drawing_is_put_into_the_page() -> None:
    hook = module(HOOKS / "drawings.py").on_page_markdown
    page = hook("before\n\n![Words.](../drawings/ties.svg)\n\nafter")
    assert page.startswith('before\n\n<figure class="drawing"><svg ')
    assert page.endswith("</svg><figcaption>Words.</figcaption></figure>\n\nafter")
    assert hook("![Words.](images/other.svg)") == "![Words.](images/other.svg)"


def test_links_out_of_the_documentation_become_paths(caplog) -> None:
    hook = module(HOOKS / "repository_links.py").on_page_markdown
    page = SimpleNamespace(file=SimpleNamespace(src_uri="extending.md"))
    assert hook("[`src/gpmt/scores/`](../src/gpmt/scores/)", page=page) == "`src/gpmt/scores/`"
    assert hook("[a folder](../src/gpmt/scores/)", page=page) == "a folder (`src/gpmt/scores`)"
    assert hook("[a page](plans.md)", page=page) == "[a page](plans.md)"
    with caplog.at_level(logging.WARNING):
        hook("[nothing](../src/nothing.py)", page=page)
    assert "../src/nothing.py is not in the repository" in caplog.text


def test_doctests_become_blocks() -> None:
    fenced = module(HOOKS / "doctest_blocks.py").fenced
    assert fenced("Meaning.\n\n>>> 1 + 1\n2\n\nMore.") == "Meaning.\n\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore."
    assert fenced("No example: a > b.") == "No example: a > b."


def addresses(entry: object) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    values = entry.values() if isinstance(entry, dict) else entry
    return [address for value in values for address in addresses(value)]


def test_every_page_is_in_the_navigation() -> None:
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(), loader)["nav"]
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages - set(addresses(nav)) == set()
