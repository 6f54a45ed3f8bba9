# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb report after real runs: a backup, a refused one, one past a closed window, a drill and a prune."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import read_chain
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)

DATABASE = "reported"
EVIL = "<script>alert('table')</script>"
REASON = "incident 4711 <script>alert('reason')</script>"
# 29 February at three in the morning: closed whenever these tests run but then
CLOSED = [{"name": "leap", "rule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "start": "03:00", "duration": "1h"}]


def variables(server: Server, folder: Path, **more: object) -> dict[str, object]:
    return {
        "saasops_system": "shop",
        "saasops_database": DATABASE,
        "saasops_connection": acts.connection(server),
        "saasops_store": {"type": "posix", "path": str(folder / "store")},
        "saasops_retention": {"daily": 7},
        "saasops_rpo": "24h",
        "saasops_rto": "1h",
        **more,
    }


def verb(server: Server, folder: Path, name: str, *arguments: str, **more: object) -> Run:
    return play(name, inventory(folder, variables(server, folder, **more)), *arguments)


@pytest.fixture
def folder(server: Server, tmp_path: Path) -> Iterator[Path]:
    """A controller's home, with the database of a system whose table has a name that means harm."""
    (tmp_path / "store").mkdir()
    server.dropdb(DATABASE)
    server.createdb(DATABASE)
    server.psql(f'CREATE TABLE "{EVIL}" AS SELECT generate_series(1, 100) AS id', DATABASE)
    yield tmp_path
    server.dropdb(DATABASE)


def fragment(page: str, section: str) -> str:
    """The HTML of one section."""
    found = re.search(rf'<section id="{section}".*?(?=<section id=|</main>)', page, re.DOTALL)
    assert found, section
    return found.group()


@pytest.mark.essential
def test_the_report_tells_of_every_run_and_ledger_and_escapes_what_it_shows(server: Server, folder: Path) -> None:
    for name, arguments, more in (
        ("backup", (), {}),
        ("backup", (), {"saasops_windows": CLOSED}),
        ("backup", ("-e", f'{{"break_glass": "{REASON}"}}'), {"saasops_windows": CLOSED}),
        ("restore_drill", (), {}),
        ("prune", (), {}),
    ):
        done = verb(server, folder, name, *arguments, **more)
        assert (done.code == 0) is (not more or bool(arguments)), done.output
    written = verb(server, folder, "report")
    assert written.code == 0, written.output
    path = folder / "report-shop.html"
    assert f"Wrote {path}" in written.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    page = path.read_text(encoding="utf-8")

    # the page's own script is the only one
    assert page.count("<script") == 1
    bypasses = fragment(page, "bypasses")
    assert "incident 4711 &lt;script&gt;alert(" in bypasses
    assert "window_closed" in bypasses
    runs = fragment(page, "runs")
    words = re.findall(r'<li class="run \w+" data-verb="(\w+)" data-result="([\w ]+)"', runs)
    # without a drill's own end its last step decides; prune had nothing to delete
    assert [pair for pair in words if pair[0] == "backup"] == [
        ("backup", "changed bypassed"),
        ("backup", "refused"),
        ("backup", "changed"),
    ]
    assert ("restore_drill", "changed") in words
    assert "Window leap is closed" in runs or "window leap is closed" in runs
    assert "Remedy:" in runs
    assert "Plan against result" in runs
    assert ">done</span>" in runs
    assert ">not done</span>" not in runs
    backups = fragment(page, "backups")
    assert "restored and compared by a drill" in backups
    assert "Kept are 7 daily" in backups
    drilled = fragment(page, "drills")
    assert ">passed</span>" in drilled
    assert '<svg class="chart"' in drilled
    count = len(read_chain(PosixStore(str(folder / "store"))).entries)
    assert f"The journal is whole: {count} records" in fragment(page, "journal")
    assert server.password not in page


def test_check_mode_writes_no_file_and_a_folder_or_mode_is_taken(server: Server, folder: Path) -> None:
    tried = verb(server, folder, "report", "--check")
    assert tried.code == 0, tried.output
    assert "Would write" in tried.output
    assert not (folder / "report-shop.html").exists()
    (folder / "out").mkdir()
    done = verb(server, folder, "report", "-e", f"dest={folder}/out", "-e", "report_mode=0640")
    assert done.code == 0, done.output
    assert stat.S_IMODE((folder / "out" / "report-shop.html").stat().st_mode) == 0o640
    assert list((folder / "store").iterdir()) == []


def test_a_damaged_journal_is_told_and_still_reported(server: Server, folder: Path) -> None:
    assert verb(server, folder, "backup").code == 0
    record = folder / "store" / "journal" / "00000002.json"
    record.write_bytes(record.read_bytes().replace(b'"intent"', b'"notent"'))
    done = verb(server, folder, "report", "-e", "dest=r.html")
    assert done.code == 0, done.output
    journal = fragment((folder / "r.html").read_text(encoding="utf-8"), "journal")
    assert ">damaged</span>" in journal
    assert "Record 2 was edited" in journal


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("-e", "dest=/nowhere/at/all.html"), "report_not_written"),
        (("-e", "report_mode=rw"), "bad_mode"),
        (("-e", "last=0"), "bad_number"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_code(
    server: Server, folder: Path, arguments: tuple[str, ...], code: str
) -> None:
    refused = verb(server, folder, "report", *arguments)
    assert refused.code != 0
    assert f"[{code}]" in refused.output


def test_two_hosts_never_write_one_file(server: Server, folder: Path) -> None:
    hosts = {"one": {"saasops_system": "one"}, "two": {"saasops_system": "two"}}
    book = inventory(folder, {k: v for k, v in variables(server, folder).items() if k != "saasops_system"}, hosts)
    refused = play("report", book, "-e", "dest=both.html")
    assert refused.code != 0
    assert "[one_file_for_all]" in refused.output
    assert play("report", book).code == 0
    assert sorted(path.name for path in folder.glob("*.html")) == ["report-one.html", "report-two.html"]
