"""The data page as people see it: charts whose gaps are gaps, in both themes and on a phone."""

from __future__ import annotations

from datetime import timedelta

from playwright.sync_api import ConsoleMessage, Page, expect

from clarity_pipeline_tests.agency import DAY
from clarity_pipeline_tests.browser.conftest import Site, serious_violations
from clarity_pipeline_tests.factories import NOW, connect_business
from clarity_pipeline_tests.stored_days import store_day, store_pages, sums

DATA = "/agency/businesses/acme/clarity/data?days=7&metric=clarity_rage_clicks"
LONG = "https://shop.example/" + "word" * 100 + "?" + "a" * 300


def fill(site: Site) -> None:
    """A week with a gap on its last day but one."""
    database = site.agency.database
    connect_business(database, site.agency.vault, now=NOW - timedelta(days=365))
    for back in (0, 2, 3, 4, 5, 6):
        store_day(database, DAY - timedelta(days=back), sums())
    store_pages(database, DAY, {LONG: sums(), "https://shop.example/": sums()})


def chart(page: Page, path: str) -> object:
    """Something of the chart that Chart.js has drawn."""
    canvas = page.locator("canvas[data-chart]")
    return canvas.evaluate(f"(canvas) => Chart.getChart(canvas)?.{path} ?? null")


def wait_until(page: Page, holds: str) -> None:
    """A chart follows the page and its theme a frame later."""
    page.wait_for_function(
        "() => { const chart = Chart.getChart(document.querySelector('canvas[data-chart]'));"
        f" return chart && {holds}; }}"
    )


def test_the_chart_leaves_a_gap_and_tells_why_when_it_is_pointed_at(site: Site) -> None:
    fill(site)
    page = site.sign_in("ada@agency.example", DATA)
    assert chart(page, "data.datasets[0].data") == [5, 5, 5, 5, 5, None, 5]
    assert chart(page, "data.datasets[0].spanGaps") is False
    assert chart(page, "data.datasets[1].data.map(Boolean)") == [False] * 5 + [True, False]
    x, y = (chart(page, f"getDatasetMeta(1).data[5].{axis}") for axis in ("x", "y + 40"))
    page.locator("canvas[data-chart]").hover(position={"x": x, "y": y})  # pyright: ignore[reportArgumentType]
    wait_until(page, "chart.tooltip?.opacity > 0")
    assert chart(page, "tooltip.title[0]") == "Sat 31 Oct 2026"
    assert "No run was made" in str(chart(page, "tooltip.footer.join(' ')"))


def test_another_value_is_shown_without_loading_the_page_and_in_the_colours_of_the_theme(
    site: Site,
) -> None:
    fill(site)
    page = site.sign_in("ada@agency.example", DATA)
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    page.on("console", note)
    page.evaluate("() => { window.isTheSamePage = true; }")
    page.locator("#tile-clarity_sessions").press("Enter")
    expect(page.get_by_role("heading", name="Page sessions")).to_be_visible()
    expect(page.locator("#tile-clarity_sessions")).to_be_focused()
    expect(page.locator("#announcer")).to_contain_text("Chart: Page sessions.")
    assert "metric=clarity_sessions" in page.url
    assert page.evaluate("() => window.isTheSamePage")
    wait_until(page, "chart.data.datasets[0].data[0] === 10")
    light = chart(page, "data.datasets[0].borderColor")
    page.emulate_media(color_scheme="dark")
    wait_until(page, f"chart.data.datasets[0].borderColor !== '{light}'")
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    wait_until(page, "chart.options.animation === false")
    assert complaints == []


def test_nothing_is_wider_than_a_phone_and_axe_has_nothing_serious_against_it(site: Site) -> None:
    fill(site)
    page = site.sign_in("ada@agency.example", DATA, width=390)
    for dark in (False, True):
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.locator("summary").first.click()
        assert page.evaluate("() => document.documentElement.scrollWidth") == 390
        assert serious_violations(page) == []
    page.set_viewport_size({"width": 1280, "height": 900})
    assert serious_violations(page) == []
