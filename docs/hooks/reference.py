"""Pages of the reference, made while the site is built: of the package's public names, and of every command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from command_pages import command_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from python_pages import python_pages


def _pages() -> dict[str, dict[str, str]]:
    """Return the text of each page by its address, in the parts of the reference."""
    return {"Python": python_pages(), "Commands": command_pages()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages into the navigation."""
    assert config.nav is not None
    (place,) = [entry for entry in config.nav if "Reference" in entry]
    place["Reference"] = [{part: list(pages)} for part, pages in _pages().items()]
    return config


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages to those that are in the folder."""
    for pages in _pages().values():
        for address, text in pages.items():
            files.append(File.generated(config, address, content=text))
    return files
