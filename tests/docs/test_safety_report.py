# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/safety.md, "Report": its command writes the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ansible_collections.saasops.runbook.tests.docs.guide import Reader, sections


def test_the_command_of_the_report_writes_one_page_that_only_its_owner_reads(
    reader: Callable[..., Reader], store: Path
) -> None:
    somebody = reader()
    guide = sections("docs/safety.md")
    somebody.follow([block for block in guide["One run at a time"] if block.kind == "file"])
    somebody.follow(guide["Report"])
    page = somebody.work / "report.html"
    assert page.stat().st_mode & 0o777 == 0o600
    assert "<h1>shop</h1>" in page.read_text(encoding="utf-8")
