"""The built site, opened from disk: it asks nobody for anything; search, dark mode and narrow screens work."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.browser import chromium, serious_faults
from tests.docs.pages import ROOT

pytestmark = pytest.mark.browser

PAGES = [
    "index.html",
    "tutorials/your-checkpoint.html",
    "howto/macs-budget.html",
    "choosing.html",
    "concepts/threshold-and-floor.html",
    "migration/torch-prune.html",
    "reference/python/pruning.html",
    "reference/commands/prune.html",
    "faq.html",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that fails the test for a request that leaves the disk, and for an error in the console."""
    opened, faults = browser.new_page(), []
    opened.on(
        "request", lambda request: request.url.startswith(("file:", "data:")) or faults.append(request.url)
    )
    opened.on("console", lambda message: message.type in ("error", "warning") and faults.append(message.text))
    opened.on("pageerror", lambda error: faults.append(str(error)))
    yield opened
    opened.close()
    assert faults == []


def search(page: Any, words: str) -> list[str]:
    page.locator(".md-search__input").click()
    page.keyboard.type(words)
    page.locator(".md-search-result__link").first.wait_for(timeout=30_000)
    return [link.get_attribute("href") for link in page.locator(".md-search-result__link").all()]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_nobody_for_anything(name: str, site: Path, page: Any) -> None:
    page.goto((site / name).as_uri())
    assert page.locator("h1").first.is_visible()


def test_search_finds_from_disk(site: Path, page: Any) -> None:
    page.goto((site / "index.html").as_uri())
    assert any("torch-prune.html" in found for found in search(page, "global_unstructured"))


def test_search_finds_an_option_and_leads_to_it(site: Path, page: Any) -> None:
    page.goto((site / "howto" / "macs-budget.html").as_uri())
    (found, *_) = [address for address in search(page, "tolerance") if "commands/verify" in address]
    page.goto(found)
    assert "gpmt verify" in page.locator("h1").inner_text()


def test_the_switch_makes_it_dark_and_drawings_stay_readable(site: Path, page: Any) -> None:
    page.emulate_media(color_scheme="light")
    page.goto((site / "concepts" / "ties.html").as_uri())
    word = page.locator("figure.drawing text").first
    light = word.evaluate("word => getComputedStyle(word).fill")
    page.locator("label[title='Switch to dark mode']").click()
    assert page.locator("body").get_attribute("data-md-color-scheme") == "slate"
    dark = word.evaluate("word => getComputedStyle(word).fill")
    assert light != dark


@pytest.mark.parametrize("name", PAGES)
def test_a_narrow_screen_scrolls_down_only(name: str, site: Path, page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto((site / name).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(name: str, scheme: str, site: Path, browser: Any) -> None:
    opened = browser.new_page(color_scheme=scheme, bypass_csp=True)
    opened.goto((site / name).as_uri(), timeout=120_000)
    assert serious_faults(opened) == []
    opened.close()
