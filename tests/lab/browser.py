# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open a page of ours in headless Chromium: Debian's, driven by Playwright."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Shown:
    """A page as somebody sees it; said: everything on its console; asked: every address it wanted."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def grave(self) -> list[str]:
        """What axe calls serious or critical. Raises AssertionError when axe looked at nothing."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response
        assert len(found["passes"]) > 10, "axe did not look at the page"
        return [
            f"{item['id']}: {item['nodes'][0]['html'][:200]}"
            for item in found["violations"]
            if item["impact"] in ("serious", "critical")
        ]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a fresh profile. Fails when Debian's chromium is not installed."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    assert program, "chromium is missing; it is in tools/debian.txt"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser: Browser, page: Path, width: int = 1280, theme: str = "light") -> Iterator[Shown]:
    """The page in a window of this width, for somebody who prefers this theme; there is no network."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, offline=True)
    shown = Shown(context.new_page())
    shown.page.on("console", lambda message: shown.said.append(message.text))
    shown.page.on("pageerror", lambda error: shown.said.append(str(error)))
    shown.page.on("request", lambda request: shown.asked.append(request.url))
    shown.page.goto(page.as_uri())
    try:
        yield shown
    finally:
        context.close()
