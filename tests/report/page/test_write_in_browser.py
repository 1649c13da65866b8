"""The page as a reader meets it, in headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.browser import chromium, serious_faults
from tests.report import examples

from gpmt.report.content.report import Report
from gpmt.report.page.write import write_page

pytestmark = pytest.mark.browser

HOSTILE = "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "all.html"
    write_page(examples.report(), path)
    return path


class Opened:
    """A page that is drawn, with all that the browser said and asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-drawn]", timeout=60_000)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def overflow(self) -> int:
        width: int = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        return width

    def colour(self, selector: str, name: str) -> str:
        script = "([selector, name]) => getComputedStyle(document.querySelector(selector))[name]"
        found: str = self.page.evaluate(script, [selector, name])
        return found


def test_every_figure_is_drawn_and_nothing_is_loaded_or_complained_about(browser: Any, everything: Path):
    with Opened(browser, everything) as opened:
        figures = opened.page.locator(".picture").count()
        assert figures > 15
        assert opened.page.locator(".picture:has(.main-svg)").count() == figures
        assert opened.said == []
        assert {url for url in opened.asked if not url.startswith(("file:", "data:", "blob:"))} == set()
        assert opened.overflow() == 0


def test_a_label_shows_under_the_pointer(browser: Any, tmp_path: Path):
    write_page(Report("one", [examples.run()]), tmp_path / "page.html")
    with Opened(browser, tmp_path / "page.html") as opened:
        opened.page.locator("#density .point").last.hover(force=True)
        label = opened.page.locator("#density .hoverlayer .hovertext")
        label.wait_for()
        assert "kept: " in label.text_content()


def test_the_filter_and_the_pages_reach_every_row(browser: Any, tmp_path: Path):
    write_page(Report("many", [examples.many_layers()]), tmp_path / "page.html")
    with Opened(browser, tmp_path / "page.html") as opened:
        page = opened.page
        page.locator("#density summary").press("Enter")
        rows = page.locator("#density tbody tr")
        assert rows.count() == 25
        assert page.locator("#density .count").inner_text() == "1 to 25 of 10,000 rows"
        page.locator("#density .next").press("Enter")
        assert "blocks.6.linear1.weight" in rows.first.inner_text()
        page.locator("#density input").fill("blocks.2499.linear3")
        assert rows.count() == 1
        assert "blocks.2499.linear3.weight" in rows.first.inner_text()
        assert page.locator("#density .next").is_disabled()
        page.locator("#density input").fill("no such block")
        assert rows.count() == 0
        assert page.locator("#density .count").inner_text() == "0 to 0 of 0 rows"


def test_ten_thousand_tensors_are_drawn_within_three_seconds(browser: Any, tmp_path: Path):
    """Of the page's own time: other programs may have the processor at the same time."""
    write_page(Report("many", [examples.many_layers()]), tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 6_000_000
    with Opened(browser, tmp_path / "page.html") as opened:
        session = opened.context.new_cdp_session(opened.page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        opened.page.reload()
        opened.page.wait_for_selector("html[data-drawn]", timeout=60_000)
        metrics = session.send("Performance.getMetrics")["metrics"]
        assert {one["name"]: one["value"] for one in metrics}["ThreadTime"] < 3


def test_the_choice_of_a_block_changes_the_figure_its_caption_and_its_table(browser: Any, tmp_path: Path):
    write_page(Report("one", [examples.run()]), tmp_path / "page.html")
    with Opened(browser, tmp_path / "page.html") as opened:
        page = opened.page
        page.locator("#histograms summary").click()
        before = page.locator("#histograms tbody").inner_text()
        page.locator("#histograms select").select_option(label="mlp.weight")
        assert page.locator("#histograms figcaption").inner_text().startswith("mlp.weight: ")
        assert "mlp.weight" in page.locator("#histograms .plot").get_attribute("aria-label")
        assert page.locator("#histograms tbody").inner_text() != before


def test_dark_by_preference_and_by_the_switch(browser: Any, everything: Path):
    dark, light = "rgb(21, 25, 30)", "rgb(255, 255, 255)"
    with Opened(browser, everything, color_scheme="dark") as opened:
        assert opened.colour("body", "backgroundColor") == dark
        assert opened.colour(".plot text", "fill") == "rgb(230, 233, 236)"
        opened.page.locator("#theme").click()
        assert opened.colour("body", "backgroundColor") == light
        assert opened.colour(".plot text", "fill") == "rgb(27, 31, 36)"
        opened.page.reload()
        assert opened.colour("body", "backgroundColor") == light  # it is remembered


@pytest.mark.parametrize("width", [390, 320])
def test_a_telephone_needs_no_sideways_scrolling(browser: Any, everything: Path, width: int):
    with Opened(browser, everything, viewport={"width": width, "height": 800}) as opened:
        assert opened.overflow() == 0
        outside = opened.page.evaluate(
            "[...document.querySelectorAll('.plot')].filter(e => e.getBoundingClientRect().right > innerWidth).length"
        )
        assert outside == 0


def test_print_has_light_figures_that_fit_the_paper(browser: Any, tmp_path: Path):
    write_page(Report("one", [examples.run()]), tmp_path / "page.html")
    with Opened(browser, tmp_path / "page.html", color_scheme="dark") as opened:
        page = opened.page
        pdf = page.pdf(format="A4")
        assert pdf.startswith(b"%PDF")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        assert opened.colour("body", "backgroundColor") == "rgb(255, 255, 255)"
        assert opened.colour(".plot text", "fill") == "rgb(27, 31, 36)"
        widths = page.evaluate("[...document.querySelectorAll('.main-svg')].map(e => e.clientWidth)")
        assert max(widths) <= 680
        assert page.locator("nav").is_hidden()


def test_what_is_printed_of_a_long_table(browser: Any, tmp_path: Path):
    """All rows of a table that is open, as far as paper goes; then it says what is left out."""
    write_page(Report("many", [examples.many_layers()]), tmp_path / "page.html")
    with Opened(browser, tmp_path / "page.html") as opened:
        page = opened.page
        page.locator("#density summary").press("Enter")
        rows, count = page.locator("#density tbody tr"), page.locator("#density .count")
        page.locator("#density input").fill("blocks.24")
        page.wait_for_function("document.querySelector('#density .count').textContent.includes(' 444 ')")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        assert rows.count() == 444
        assert count.inner_text() == "1 to 444 of 444 rows with “blocks.24”"
        assert page.locator("#density .next").is_hidden()
        assert page.locator("#histograms details").first.is_hidden()
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert rows.count() == 25
        clear = "input => { input.value = ''; input.dispatchEvent(new Event('input')); }"
        page.locator("#density input").evaluate(clear)
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert rows.count() == 1000
        assert count.inner_text() == (
            "1 to 1,000 of 10,000 rows; the others are on the page, and in what gpmt table writes"
        )


def test_the_keyboard_reaches_the_summary_first(browser: Any, everything: Path):
    with Opened(browser, everything, bypass_csp=True) as opened:
        page = opened.page
        page.keyboard.press("Tab")
        skip = page.locator(".skip")
        assert skip.evaluate("e => e === document.activeElement")
        page.wait_for_function("document.querySelector('.skip').getBoundingClientRect().top >= 0")
        page.keyboard.press("Enter")
        assert page.url.endswith("#summary")
        page.keyboard.press("Shift+Tab")
        assert page.evaluate("document.activeElement.tagName") == "A"
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or page.evaluate("document.activeElement.id") == "summary"


def test_markup_in_names_stays_text(browser: Any, tmp_path: Path):
    run = examples.run()
    layers = [replace(layer, name=HOSTILE + layer.name) for layer in run.layers]
    hostile = replace(
        run,
        title=HOSTILE,
        path=HOSTILE,
        layers=layers,
        histograms=[replace(one, name=HOSTILE) for one in run.histograms],
        channels=[replace(one, tensor=HOSTILE) for one in run.channels],
        commands=[HOSTILE],
        recipe={HOSTILE: HOSTILE},
        warnings=[HOSTILE],
        missing=[HOSTILE],
    )
    report = Report(HOSTILE, [hostile, replace(hostile, path="other")], [examples.comparison()], [HOSTILE])
    write_page(report, tmp_path / "page.html")
    with Opened(browser, tmp_path / "page.html") as opened:
        assert opened.page.title() == HOSTILE
        assert opened.page.locator("img").count() == 0
        assert opened.page.locator("svg b, svg script, svg a").count() == 0
        assert opened.said == []
        label = opened.page.locator("#side-by-side .legendtext").first
        assert label.inner_html().count("<") == 0


def test_a_page_that_loads_itself_anew_stays_where_the_reader_is(browser: Any, tmp_path: Path):
    path = tmp_path / "page.html"
    write_page(Report("open", [examples.unfinished_run()]), path, refresh=10)
    with Opened(browser, path, bypass_csp=True) as opened:
        page = opened.page
        page.locator("details summary").first.click()
        page.evaluate("scrollTo({top: 300, behavior: 'instant'})")
        write_page(Report("closed", [examples.unfinished_run()]), path)
        page.wait_for_function("document.title === 'closed' && document.documentElement.dataset.drawn")
        assert page.evaluate("scrollY") == 300
        assert page.locator("details[open]").count() == 1
        assert opened.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, everything: Path, scheme: str):
    with Opened(browser, everything, color_scheme=scheme, bypass_csp=True) as opened:
        opened.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert serious_faults(opened.page) == []
