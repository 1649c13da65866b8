"""Drawings of docs/drawings/ are put into the page itself, so that they take its colours, in light and dark."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "drawings"
_IMAGE = re.compile(r"^!\[(?P<words>[^\]]*)\]\((?:\.\./)*drawings/(?P<name>\w+)\.svg\)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the images of a page that are drawings by figures with the drawing inside."""

    def figure(image: re.Match[str]) -> str:
        drawing = re.sub(r"\n\s*", "", (FOLDER / f"{image['name']}.svg").read_text())
        return f'<figure class="drawing">{drawing}<figcaption>{image["words"]}</figcaption></figure>'

    return _IMAGE.sub(figure, markdown)
