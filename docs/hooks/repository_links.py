"""Links to files of the repository that are not pages: on the site, the path in place of the link."""

from __future__ import annotations

import logging
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>(?:\.\./)+[^)#\s]+)(?:#[^)\s]*)?\)")
_log = logging.getLogger("mkdocs.hooks.repository_links")


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Replace the links of a page that lead out of docs/; those to nowhere are warnings."""
    folder = PurePosixPath("docs", page.file.src_uri).parent

    def replaced(link: re.Match[str]) -> str:
        place = (ROOT / folder / link["target"]).resolve()
        if place.is_relative_to(ROOT / "docs"):
            return link[0]
        if not place.exists():
            _log.warning("%s: %s is not in the repository", page.file.src_uri, link["target"])
        path = place.relative_to(ROOT).as_posix()
        text = link["text"]
        return text if text.strip("`/") in path else f"{text} (`{path}`)"

    return _LINK.sub(replaced, markdown)
