# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of health in a store: "for" and trends across runs, and everything that may be wrong with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Level
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_history import (
    Kept,
    Run,
    day_of,
    days_back,
    key,
    pack,
    unpack,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_health import health_view
from ansible_collections.saasops.runbook.plugins.module_utils.execute import health_check
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Stored
from ansible_collections.saasops.runbook.plugins.module_utils.store.health_log import add_run, newest_runs, read_days
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import s3
from ansible_collections.saasops.runbook.tests.lab.acts import context
from ansible_collections.saasops.runbook.tests.lab.health import checks_of, measure, silent
from ansible_collections.saasops.runbook.tests.lab.postgres import free_port

NOON = 1795435200.0  # 2026-11-23 12:00 UTC


def depth(tmp_path: Path, value: object, at: float, lines: list[str] | None = None, **changes: object) -> str:
    """Write a queue's depth, measure it at a time, and say the level."""
    (tmp_path / "depth").write_text(f"{value}\n")
    given = {
        "name": "queue",
        "command": {"argv": ["cat", str(tmp_path / "depth")], "value": "number"},
        "critical": "> 10 for 10m",
        "warning": "rises by > 50 % in 1h",
    }
    params = {
        "system": "lab",
        "checks": [given],
        "builtin": False,
        "store": {"path": str(tmp_path / "store"), "create": True},
        **changes,
    }
    result = health_check.execute(params, replace(context(False, lines), now=at))
    return str(checks_of(result)["queue"]["level"])


def test_for_and_trends_work_across_runs(tmp_path: Path) -> None:
    assert depth(tmp_path, 12, NOON) == "inconclusive"
    assert depth(tmp_path, 12, NOON + 300) == "inconclusive"
    assert depth(tmp_path, 12, NOON + 601) == "critical"
    assert depth(tmp_path, 9, NOON + 3600) == "ok"
    assert depth(tmp_path, 19, NOON + 3600) == "warning"


def test_midnight_is_no_border(tmp_path: Path) -> None:
    midnight = NOON + 12 * 3600
    assert depth(tmp_path, 12, midnight - 500) == "inconclusive"
    assert depth(tmp_path, 12, midnight + 101) == "critical"


def test_a_set_of_its_own_sees_what_other_sets_measured(tmp_path: Path) -> None:
    sets = {"often": ["queue"]}
    depth(tmp_path, 12, NOON, sets=sets, set="often")
    assert depth(tmp_path, 12, NOON + 600) == "critical"
    assert len(list((tmp_path / "store" / "health" / "lab").iterdir())) == 2


def test_hosts_do_not_see_each_other(tmp_path: Path) -> None:
    depth(tmp_path, 12, NOON, host="db-1")
    assert depth(tmp_path, 12, NOON + 600, host="db-2") == "inconclusive"
    assert depth(tmp_path, 12, NOON + 600, host="db-1") == "critical"


def test_check_mode_adds_nothing(tmp_path: Path) -> None:
    store = {"path": str(tmp_path), "create": True}
    measure({"name": "x", "command": {"argv": ["/bin/true"]}}, check=True, store=store)
    assert not (tmp_path / "health").exists()


@pytest.mark.parametrize("spoiled", [b"", b"garbage", pack(day_of(NOON), [])[:-6], b"\x1f\x8b" + b"\0" * 50])
def test_a_spoiled_history_is_said_and_never_fails_health(tmp_path: Path, spoiled: bytes) -> None:
    lines: list[str] = []
    depth(tmp_path, 12, NOON)
    file = tmp_path / "store" / key("lab", "all", day_of(NOON))
    file.write_bytes(spoiled)
    assert depth(tmp_path, 12, NOON + 600, lines) == "inconclusive"
    assert any("is no history" in line for line in lines)
    assert depth(tmp_path, 12, NOON + 1200, lines) == "critical"


@pytest.mark.parametrize(
    "store",
    [
        {"path": "relative"},
        {"path": "/proc/no/such"},
        {
            "type": "s3",
            "bucket": "b",
            "endpoint_url": f"http://127.0.0.1:{free_port()}",
            "retries": 0,
            "connect_timeout": 1,
        },
    ],
    ids=["bad", "missing", "refused"],
)
def test_a_store_that_is_down_is_said_and_never_fails_health(tmp_path: Path, store: dict[str, object]) -> None:
    lines: list[str] = []
    assert depth(tmp_path, 12, NOON, lines, store=store) == "inconclusive"
    assert any("history is left out" in line for line in lines)


def test_a_store_that_hangs_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_check, "STORE_LIMIT", 1.0)
    lines: list[str] = []
    with silent() as port:
        keys = {"access_key": "a", "secret_key": "b"}
        store = {"type": "s3", "bucket": "b", "endpoint_url": f"http://127.0.0.1:{port}", **keys}
        began = time.monotonic()
        assert depth(tmp_path, 12, NOON, lines, store=store) == "inconclusive"
    assert time.monotonic() - began < 10
    assert sum("did not answer within 1 s" in line for line in lines) == 2


def run(at: float, identifier: str) -> Run:
    return Run(at, identifier, {"x": Kept(Level.OK, 1, {})})


def test_of_two_writers_the_one_that_was_overwritten_writes_again(tmp_path: Path) -> None:
    class Racing(PosixStore):
        """Another writer's object comes right after the first put."""

        raced = False

        def put(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> Stored:
            done = super().put(key, chunks, if_absent=if_absent)
            if not self.raced:
                self.raced = True
                super().put(key, [pack(day_of(NOON), [run(NOON, "theirs")])])
            return done

    store = Racing(str(tmp_path), create=True)
    add_run(store, "db", "all", run(NOON + 1, "ours"))
    runs, told = read_days(store, "db", [day_of(NOON)])
    assert [item.id for item in runs] == ["theirs", "ours"]
    assert told == []


def test_many_writers_lose_at_most_a_few_runs_and_never_the_object(tmp_path: Path) -> None:
    store = PosixStore(str(tmp_path), create=True)
    threads = [threading.Thread(target=add_run, args=(store, "db", "all", run(NOON + n, f"{n:x}"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    runs, told = read_days(store, "db", [day_of(NOON)])
    assert told == []
    assert len(runs) >= 2


def test_a_year_is_a_ring_and_older_days_are_thinned(tmp_path: Path) -> None:
    store = PosixStore(str(tmp_path), create=True)
    for minute in range(60):
        add_run(store, "db", "all", run(NOON + 60 * minute, f"{minute:x}"))
    add_run(store, "db", "all", run(NOON + 86400, "next"))
    assert len(read_days(store, "db", [day_of(NOON)])[0]) == 60
    add_run(store, "db", "all", run(NOON + 2 * 86400, "after"))
    assert len(read_days(store, "db", [day_of(NOON)])[0]) == 4
    later = NOON + 365 * 86400
    assert read_days(store, "db", [day_of(later)])[0] == []
    add_run(store, "db", "all", run(later, "year"))
    assert [item.id for item in read_days(store, "db", [day_of(later)])[0]] == ["year"]
    assert len(store.list("health/")) == 3


def test_an_s3_store_keeps_it_too(s3_server: s3.Server, tmp_path: Path) -> None:
    bucket = s3_server.create_bucket()
    store = {
        "type": "s3",
        "bucket": bucket,
        "endpoint_url": s3_server.endpoint,
        "access_key": s3_server.access_key,
        "secret_key": s3_server.secret_key,
    }
    assert depth(tmp_path, 12, NOON, store=store) == "inconclusive"
    assert depth(tmp_path, 12, NOON + 600, store=store) == "critical"


def test_the_report_gets_the_newest_run_of_each_host_and_set(tmp_path: Path) -> None:
    depth(tmp_path, 9, NOON - 86400, host="db-1")
    depth(tmp_path, 12, NOON, host="db-1")
    depth(tmp_path, 9, NOON, host="db-2", set="often", sets={"often": ["queue"]})
    store = PosixStore(str(tmp_path / "store"))
    (tmp_path / "store/health/db-3/all").mkdir(parents=True)
    (tmp_path / "store/health/db-3/all/11-23.json.gz").write_bytes(b"spoiled")
    view = health_view(newest_runs(store), NOON + 60)
    rows = cast("list[dict[str, object]]", view["rows"])
    assert [(row["host"], row["set"], row["level"]) for row in rows] == [
        ("db-1", "all", "inconclusive"),
        ("db-2", "often", "inconclusive"),
    ]
    assert rows[0]["bad"] == [{"name": "queue", "level": "inconclusive", "tone": "loud", "value": "12"}]
    assert rows[0]["ago"] == "1 min ago"


def test_days_of_a_trend_of_a_week_are_read() -> None:
    assert len(days_back(NOON, 7 * 86400)) == 8
    assert unpack(pack(day_of(NOON), []), day_of(NOON)) == []
