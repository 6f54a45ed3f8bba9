# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a report: every value escaped, one script, nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from ansible_collections.saasops.runbook.plugins.action.guard_report import write
from ansible_collections.saasops.runbook.plugins.plugin_utils.report_page import render
from ansible_collections.saasops.runbook.tests.lab import reports


@pytest.fixture(scope="module")
def page() -> str:
    return render(reports.view(reports.busy(16), last=12))


def test_every_text_from_outside_is_escaped(page: str) -> None:
    assert reports.SCRIPT not in page
    assert reports.QUOTE not in page
    assert "public.&lt;script&gt;window.harmed = true&lt;/script&gt;" in page
    assert page.count("<script") == 1


def test_the_policy_names_exactly_the_script_and_style_of_the_page(page: str) -> None:
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        checksum = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        # the attribute is escaped as every other value
        assert f"{tag}-src &#39;sha256-{checksum}&#39;" in page
    assert "default-src &#39;none&#39;" in page


class Addresses(HTMLParser):
    """Every attribute of a page that can name something to fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


def test_nothing_is_asked_from_anywhere(page: str) -> None:
    seen = Addresses()
    seen.feed(page)
    assert len(seen.found) > 10
    assert [address for address in seen.found if not address.startswith("#")] == []
    assert "url(" not in page
    assert "@import" not in page


def test_a_view_that_lacks_something_is_an_error_and_not_an_empty_page() -> None:
    view = reports.view(reports.busy(2))
    del view["drills"]
    with pytest.raises(UndefinedError):
        render(view)


def test_a_year_of_three_runs_a_day_is_a_page_of_less_than_a_megabyte() -> None:
    assert len(render(reports.view(reports.busy(1000, every=reports.DAY / 3))).encode()) < 1_000_000


def test_the_file_is_replaced_whole_with_the_permissions_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o666)
    write(str(path), b"new", 0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]


def test_health_is_told_worst_first_and_escaped(page: str) -> None:
    section = page.partition('<section id="health"')[2].partition("</section>")[0]
    assert section.index("shop-2") < section.index("shop-1")
    assert "&lt;b&gt;queue: 21" in section
    assert "1 of 3 ok" in section
