# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's page in a real browser: on a telephone and a desk, light and dark, and with texts that mean harm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ansible_collections.saasops.runbook.plugins.plugin_utils.report_page import render
from ansible_collections.saasops.runbook.tests.lab import browser, reports

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RUNS, TOLD = 24, 20
EVERYTHING = "document.querySelectorAll('details').forEach(item => { item.open = true })"
SHOWN = "[...document.querySelectorAll('li.run')].filter(item => item.offsetParent !== null).length"


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser.chromium() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything on it."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(reports.view(reports.busy(RUNS), last=TOLD)), encoding="utf-8")
    return path


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_opens_clean_fits_its_window_and_axe_finds_nothing_grave(
    chrome: Browser, page: Path, width: int, theme: str
) -> None:
    with browser.opened(chrome, page, width, theme) as shown:
        assert shown.overflow <= 0
        shown.page.evaluate(EVERYTHING)
        assert shown.overflow <= 0
        assert shown.grave() == []
        assert shown.said == []
        assert shown.asked == [page.as_uri()]


def test_planted_scripts_and_images_are_text(chrome: Browser, page: Path) -> None:
    with browser.opened(chrome, page) as shown:
        assert shown.page.evaluate("window.harmed") is None
        assert shown.page.locator("script").count() == 1
        assert shown.page.locator("img").count() == 0
        assert reports.SCRIPT in shown.page.locator("#bypasses").inner_text()
        assert shown.said == []


def test_a_script_that_slipped_through_would_not_run(chrome: Browser, page: Path, tmp_path: Path) -> None:
    leaky = tmp_path / "leaky.html"
    text = page.read_text(encoding="utf-8")
    leaky.write_text(text.replace("<main id", f"{reports.SCRIPT}<main id"), encoding="utf-8")
    with browser.opened(chrome, leaky) as shown:
        assert shown.page.evaluate("window.harmed") is None
        assert any("Content Security Policy" in line for line in shown.said)


def test_filters_by_verb_result_host_and_text_leave_what_fits_and_say_how_many(chrome: Browser, page: Path) -> None:
    with browser.opened(chrome, page) as shown:
        count = shown.page.locator("#count")
        assert count.get_attribute("aria-live") == "polite"
        assert shown.page.evaluate(SHOWN) == TOLD
        shown.page.select_option("#f-verb", "backup")
        assert count.inner_text() == "7 of 20 runs shown."
        shown.page.select_option("#f-result", "bypassed")
        assert (shown.page.evaluate(SHOWN), count.inner_text()) == (1, "1 of 20 runs shown.")
        shown.page.select_option("#f-host", "db2")
        assert shown.page.evaluate(SHOWN) == 0
        shown.page.get_by_role("button", name="Clear").click()
        shown.page.wait_for_function("document.getElementById('count').textContent === '20 of 20 runs shown.'")
        shown.page.fill("#f-text", "STORE_FULL db2")
        assert (shown.page.evaluate(SHOWN), count.inner_text()) == (3, "3 of 20 runs shown.")


def test_the_theme_follows_the_system_until_the_button_says_otherwise(chrome: Browser, page: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with browser.opened(chrome, page, theme="light") as shown:
        light = shown.page.evaluate(background)
        shown.page.get_by_role("button", name="Dark theme").click()
        dark = shown.page.evaluate(background)
        assert light != dark
        shown.page.get_by_role("button", name="Light theme").click()
        assert shown.page.evaluate(background) == light
    with browser.opened(chrome, page, theme="dark") as shown:
        assert shown.page.evaluate(background) == dark
        # paper is light whatever the screen is
        shown.page.emulate_media(media="print")
        assert shown.page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 36, 48)"


def test_a_bypass_leads_to_its_run_and_opens_it(chrome: Browser, page: Path) -> None:
    with browser.opened(chrome, page) as shown:
        link = shown.page.locator("#bypasses a").first
        target = (link.get_attribute("href") or "")[1:]
        assert not shown.page.evaluate("id => document.getElementById(id).open", target)
        link.click()
        shown.page.wait_for_function("id => document.getElementById(id).open", arg=target)


def test_without_scripts_everything_is_there_and_nothing_is_hidden_but_the_controls(
    chrome: Browser, page: Path
) -> None:
    context = chrome.new_context(java_script_enabled=False, offline=True)
    shown = context.new_page()
    shown.goto(page.as_uri())
    assert shown.locator("li.run").count() == TOLD
    assert shown.locator("#filters").is_hidden()
    assert shown.locator("#theme").is_hidden()
    context.close()


def test_the_page_has_landmarks_headings_in_order_and_a_caption_for_each_table(chrome: Browser, page: Path) -> None:
    with browser.opened(chrome, page) as shown:
        for landmark in ("header", "nav", "main", "footer"):
            assert shown.page.locator(landmark).count() == 1
        assert shown.page.locator("h1").count() == 1
        assert shown.page.evaluate("[...document.querySelectorAll('table')].every(item => item.caption)")
