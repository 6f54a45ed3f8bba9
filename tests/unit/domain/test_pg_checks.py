# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rows of a server mean, as tables: the thresholds just below and just above, and what may not be seen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import Backend
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Level, judge
from ansible_collections.saasops.runbook.plugins.module_utils.domain.horizon import SLOT, Holder, Horizon
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_checks import PG_CHECKS
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_checks_server import setting_seconds
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_checks_storage import stop_limit
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import (
    Answer,
    Expected,
    Facts,
    Survey,
    Timeout,
    Value,
)

FACTS = Facts(150018, False, "ops", "shop", False, frozenset({"pg_monitor", "pg_read_all_stats"}), 1000.0, 0.0, 0)
BY_NAME = {item.check.name: item for item in PG_CHECKS}
Row = Mapping[str, Value]


def survey(rows: Mapping[str, Sequence[Row] | OpsError], facts: Facts = FACTS, **changes: object) -> Survey:
    """Rows of the server and of the database shop."""
    answers: dict[tuple[str, str], Answer] = {}
    for name, answer in rows.items():
        answers["", name] = answers["shop", name] = answer
    return replace(Survey(facts, answers, ("shop",)), **changes)  # type: ignore[arg-type]


def level(name: str, given: Survey) -> str:
    return judge(BY_NAME[name].check, BY_NAME[name].measure(given), None, 0.0).level.value


def connections(used: int) -> list[Row]:
    return [{"kind": "server", "name": "", "used": used, "lim": 1000, "idle": used, "idle_in_transaction": 0}]


@pytest.mark.parametrize(
    ("used", "found"), [(800, "ok"), (801, "warning"), (950, "warning"), (951, "critical"), (1001, "critical")]
)
def test_a_pool_is_an_alert_above_80_percent(used: int, found: str) -> None:
    assert level("connections", survey({"connections": connections(used)})) == found


def idle(pid: int, seconds: float, user: str = "app") -> Backend:
    """A session that has been idle in a transaction for so long."""
    return Backend(
        pid,
        "2026-11-23T00:00:00Z",
        user,
        "shop",
        "web",
        "",
        "client backend",
        "idle in transaction",
        "SELECT 1",
        seconds + 1,
        None,
        seconds,
    )


@pytest.mark.parametrize(
    ("ages", "over", "said"),
    [
        ([301] * 3 + [9] * 9, "300s", "3 of 12 connections are idle in transaction for more than 5 min"),
        ([301] * 2 + [61] + [9] * 9, "60s", "3 of 12 connections are idle in transaction for more than 1 min"),
        ([11] * 3 + [9] * 9, "10s", "3 of 12 connections are idle in transaction for more than 10 s"),
        ([11] * 2 + [9] * 10, "", ""),
        ([10] * 12, "", ""),
        ([90] * 11 + [0], "60s", "one run ends the 10 oldest, run it again for the rest"),
    ],
)
def test_the_command_that_frees_slots_names_an_age_at_which_it_does(ages: list[float], over: str, said: str) -> None:
    row = {**connections(len(ages))[0], "idle_in_transaction": len(ages), "superusers": ["root"]}
    given = survey({"connections": [row]}, backends=[idle(n, age) for n, age in enumerate(ages, 1)])
    (found,) = BY_NAME["connections"].measure(given)
    assert (found.remedy.variables if found.remedy else {}) == ({"idle_in_transaction": over} if over else {})
    assert said in (found.remedy.why if found.remedy else "")


def test_whom_the_verb_sessions_would_leave_alone_is_not_counted_to_be_ended() -> None:
    row = {**connections(4)[0], "idle_in_transaction": 4, "superusers": ["root"]}
    others = [idle(1, 900, "root"), replace(idle(2, 900), application="pg_dump"), idle(3, 900), idle(4, 900)]
    given = survey({"connections": [row]}, backends=others, own=frozenset({4}))
    (found,) = BY_NAME["connections"].measure(given)
    assert found.remedy
    assert found.remedy.why.startswith("1 of 4 connections")


def frozen(xids: int, multis: int = 0) -> list[Row]:
    return [
        {"name": "shop", "connectable": True, "xids": xids, "multis": multis, "xid_limit": 200_000_000,
         "multi_limit": 400_000_000}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("xids", "multis", "age", "wraparound"),
    [
        (220_000_000, 0, "ok", "ok"),
        (220_100_000, 0, "warning", "ok"),
        (400_100_000, 0, "critical", "ok"),
        (0, 440_100_000, "warning", "ok"),
        (1_072_241_000, 0, "critical", "ok"),
        (1_072_300_000, 0, "critical", "warning"),
        (1_608_400_000, 0, "critical", "critical"),
        (0, 1_608_400_000, "critical", "critical"),
    ],
)
def test_freeze_ages_of_transactions_and_multixacts(xids: int, multis: int, age: str, wraparound: str) -> None:
    given = survey({"freeze_databases": frozen(xids, multis)})
    assert (level("freeze_age", given), level("wraparound", given)) == (age, wraparound)


def test_the_server_stops_earlier_since_14() -> None:
    assert stop_limit(130000) - stop_limit(140000) == 2_000_000


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"active": True, "wal_status": "reserved"}, "ok"),
        ({"active": False, "wal_status": "reserved"}, "warning"),
        ({"active": False, "wal_status": "unreserved"}, "warning"),
        ({"active": False, "wal_status": "lost", "lost": "WAL removed"}, "critical"),
        ({"active": False, "wal_status": "reserved", "lost": "idle_timeout"}, "critical"),
    ],
)
def test_slots_by_their_state(row: dict[str, Value], found: str) -> None:
    given = survey({"slots": [{"name": "s", "type": "logical", "database": "", "retained": 5, **row}]})
    assert level("replication_slots", given) == found


@pytest.mark.parametrize(("retained", "found"), [(10**9, "ok"), (10**9 + 1, "warning"), (10**10 + 1, "critical")])
def test_wal_that_a_slot_keeps(retained: int, found: str) -> None:
    given = survey({"slots": [{"name": "s", "active": False, "wal_status": "extended", "retained": retained}]})
    assert level("replication_slot_wal", given) == found


ARCHIVER: dict[str, Value] = {
    "mode": "on",
    "command": "cp",
    "library": "",
    "archived": 3,
    "failed": 2,
    "failed_wal": "0",
}
SEES_SETTINGS = replace(FACTS, member_of=FACTS.member_of | {"pg_read_all_settings"})


@pytest.mark.parametrize(
    ("changes", "facts", "found"),
    [
        ({"archived_ago": 10.0, "failed_ago": 20.0}, SEES_SETTINGS, "ok"),
        ({"archived_ago": 20.0, "failed_ago": 10.0}, SEES_SETTINGS, "critical"),
        ({"archived_ago": None, "failed_ago": 10.0}, SEES_SETTINGS, "critical"),
        ({"archived_ago": None, "failed_ago": None}, SEES_SETTINGS, "ok"),
        ({"archived_ago": 10.0, "failed_ago": None, "command": ""}, SEES_SETTINGS, "critical"),
        ({"archived_ago": 10.0, "failed_ago": None, "command": "", "library": "basic_archive"}, SEES_SETTINGS, "ok"),
        ({"archived_ago": 10.0, "failed_ago": None, "command": ""}, FACTS, "inconclusive"),
        ({"archived_ago": 20.0, "failed_ago": 10.0, "command": ""}, FACTS, "critical"),
        ({"mode": "off"}, SEES_SETTINGS, "ok"),
        ({"archived_ago": 20.0, "failed_ago": 10.0}, replace(SEES_SETTINGS, standby=True), "ok"),
        ({"mode": "always", "archived_ago": 20.0, "failed_ago": 1.0}, replace(SEES_SETTINGS, standby=True), "critical"),
    ],
)
def test_archiving_fails_when_the_last_attempt_did(changes: dict[str, Value], facts: Facts, found: str) -> None:
    assert level("wal_archiving", survey({"archiver": [{**ARCHIVER, **changes}]}, facts)) == found


STANDBY: dict[str, Value] = {"standby": True, "paused": False, "behind": 0, "receiver": "streaming", "streams": True}


@pytest.mark.parametrize(
    ("changes", "delay", "receiver"),
    [
        ({"since_last": 5000.0}, "ok", "ok"),
        ({"behind": 100, "since_last": 30.0}, "ok", "ok"),
        ({"behind": 100, "since_last": 30.1}, "warning", "ok"),
        ({"behind": 100, "since_last": 300.1}, "critical", "ok"),
        ({"since_last": 5000.0, "receiver": None}, "critical", "critical"),
        ({"since_last": 1.0, "receiver": None, "streams": False}, "ok", "ok"),
        ({"behind": 100, "since_last": None}, "critical", "ok"),
        ({"since_last": 1.0, "receiver": "waiting"}, "ok", "warning"),
        ({"standby": False}, "ok", "ok"),
    ],
)
def test_a_standby_without_writes_is_not_behind_and_one_without_a_stream_is(
    changes: dict[str, Value], delay: str, receiver: str
) -> None:
    given = survey({"receiver": [{**STANDBY, **changes}]})
    assert (level("replay_delay", given), level("wal_receiver", given)) == (delay, receiver)


@pytest.mark.parametrize(("count", "found"), [(0, "ok"), (1, "critical")])
def test_one_page_that_failed_its_checksum_is_one_too_many(count: int, found: str) -> None:
    rows: list[Row] = [{"name": "shop", "checksums": "on", "checksum_failures": count, "seconds": 1.0}]
    assert level("checksum_failures", survey({"counters": rows})) == found


@pytest.mark.parametrize(
    ("count", "seconds", "found"),
    [(1, 60.0, "ok"), (2, 60.0, "warning"), (24, 86400.0, "ok"), (25, 86400.0, "warning"), (1, None, "inconclusive")],
)
def test_deadlocks_are_a_rate_by_the_hour(count: int, seconds: float | None, found: str) -> None:
    rows: list[Row] = [{"name": "shop", "deadlocks": count, "seconds": seconds}]
    assert level("deadlocks", survey({"counters": rows})) == found


GIVEN: list[Row] = [
    {"role": "app", "database": "shop", "name": "statement_timeout", "setting": "10s"},
    {"role": "app", "database": "", "name": "statement_timeout", "setting": "2min"},
    {"role": "", "database": "shop", "name": "statement_timeout", "setting": "45s"},
]
SETTINGS: list[Row] = [
    {"name": "statement_timeout", "setting": "30000", "unit": "ms", "pending_restart": False},
    {"name": "idle_session_timeout", "setting": "60000", "unit": "ms", "pending_restart": False},
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Timeout("statement_timeout", 10.0, "app", "shop"), "ok"),
        (Timeout("statement_timeout", 9.9, "app", "shop"), "warning"),
        (Timeout("statement_timeout", 119.0, "app"), "warning"),
        (Timeout("statement_timeout", 45.0, "other", "shop"), "ok"),
        (Timeout("statement_timeout", 44.0, "other", "shop"), "warning"),
        (Timeout("statement_timeout", 30.0, "other", "else"), "inconclusive"),
        (Timeout("lock_timeout", 30.0), "warning"),
        (Timeout("idle_session_timeout", 60.0, "other"), "ok"),
        (Timeout("idle_session_timeout", 59.0, "other"), "warning"),
    ],
)
def test_a_timeout_is_what_role_database_and_server_say_in_that_order(wanted: Timeout, found: str) -> None:
    given = survey({"given_settings": GIVEN, "settings": SETTINGS}, expected=Expected(timeouts=(wanted,)))
    assert level("timeouts", given) == found


@pytest.mark.parametrize(
    ("text", "unit", "seconds"),
    [("30s", "", 30.0), ("500", "", 0.5), ("500", "ms", 0.5), ("2min", "", 120.0), ("1h", "", 3600.0), ("0", "ms", 0.0),
     ("1.5s", "", 1.5), ("soon", "", None)],
)  # fmt: skip
def test_timeouts_as_the_server_writes_them(text: str, unit: str, seconds: float | None) -> None:
    assert setting_seconds(text, unit) == seconds


def test_every_check_that_could_not_be_read_is_inconclusive_and_says_why() -> None:
    broken = OpsError("lock_timeout", "PostgreSQL refused: canceling statement.", "Wait.")
    names = {query for item in PG_CHECKS for query in item.queries}
    given = survey(dict.fromkeys(names, broken), backends=broken, prepared=broken, horizon=broken, points=broken)
    for name, item in BY_NAME.items():
        outcome = judge(item.check, item.measure(given), None, 0.0)
        assert outcome.level is Level.INCONCLUSIVE, (name, outcome.why)
        # some need the counters' age before they ask
        assert "canceling statement" in outcome.why or name in ("unused_indexes", "timeouts"), (name, outcome.why)


def test_a_refused_query_names_the_grant() -> None:
    refused = OpsError("not_permitted", "permission denied", "Grant it.", {"sqlstate": "42501"})
    given = survey({"archive_waiting": refused})
    (its,) = BY_NAME["wal_archive_waiting"].measure(given)
    assert its.missing == "needs GRANT pg_monitor TO ops"


def test_an_inactive_slot_that_holds_dead_rows_back_is_advice_and_no_command() -> None:
    holder = Holder(SLOT, "old", 2_000_000)
    (its,) = BY_NAME["removable_horizon"].measure(survey({}, horizon=Horizon((holder,))))
    assert (its.value, its.scope) == (2_000_000, "replication slot old")
    assert its.remedy is not None
    assert its.remedy.verb == ""


def test_the_page_of_the_built_in_checks_names_each_with_its_thresholds() -> None:
    root = Path(__file__).resolve().parents[3]
    text = (root / "docs" / "builtin_checks.md").read_text(encoding="utf-8")
    rows = {found[0]: found for found in re.findall(r"^\| `(\w+)` \| .*? \| (.*?) \| (.*?) \|", text, re.MULTILINE)}
    for name, item in BY_NAME.items():
        assert name in rows, f"docs/builtin_checks.md does not tell of {name}"
        told = tuple(part.strip("`") for part in rows[name][1:])
        assert told == (item.check.warning or "-", item.check.critical or "-"), name
    assert set(rows) == set(BY_NAME)
