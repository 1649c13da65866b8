"""The dialog of the search gets a name, which Material leaves out, for those who hear the page."""

from __future__ import annotations

from typing import Any

_DIALOG = 'data-md-component="search" role="dialog"'


def on_post_page(output: str, **_: Any) -> str:
    """Name the dialog of the search on a page."""
    return output.replace(_DIALOG, f'{_DIALOG} aria-label="Search"')
