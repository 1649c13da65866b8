"""Pages in headless Chromium, for the tests that are marked `browser`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

AXE = Path(os.environ.get("GPMT_AXE", ".venv/axe/package/axe.min.js"))


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a browser, Debian's or the one of playwright; without either the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
        except playwright.Error as error:
            pytest.skip(f"no Chromium ({str(error).splitlines()[0]}); make test-browser installs one")
        yield browser
        browser.close()


def serious_faults(page: Any) -> list[tuple[str, str]]:
    """Return what axe-core calls serious or critical on an open page: the rule and the element.

    The page has to be in a context with ``bypass_csp=True``. Without axe-core the test is skipped.
    """
    if not AXE.exists():
        pytest.skip(f"{AXE} is not there; make test-browser fetches axe-core")
    page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then(result => result.violations)")
    return [
        (one["id"], node["html"])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
