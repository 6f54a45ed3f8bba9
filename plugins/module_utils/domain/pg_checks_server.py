# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Built-in checks of the server itself: counters, slow statements, settings, collations, the recovery point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, human_size
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import (
    MONITOR,
    PgCheck,
    Row,
    Survey,
    Timeout,
    each_database,
    needs,
    number,
    seen,
    statement,
    text,
    whole,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import Remedy

HOUR = 3600.0
OK, HINT, UNWISE, DANGER = "ok", "hint", "unwise", "dangerous"
# setting -> (value that endangers data, how much, why)
DANGERS = (
    ("fsync", "off", DANGER, "a crash of the machine destroys the cluster"),
    ("full_page_writes", "off", DANGER, "a crash of the machine leaves torn pages"),
    ("autovacuum", "off", DANGER, "nothing freezes and nothing removes dead rows"),
    ("track_counts", "off", DANGER, "autovacuum does not know what to do"),
    ("zero_damaged_pages", "on", DANGER, "damaged pages are emptied while they are read"),
    ("ignore_checksum_failure", "on", DANGER, "damaged pages are read as if they were sound"),
    ("data_checksums", "off", UNWISE, "damage of the disk goes unnoticed"),
)


def _hourly(row: Row, name: str) -> float:
    """Counted per hour; over less than one hour as if it had been one, so that one event is no rate of many."""
    return number(row, name) / max(number(row, "seconds"), HOUR) * HOUR


def _since(row: Row) -> str:
    return (
        f"in {human_duration(number(row, 'seconds'))}" if row.get("seconds") is not None else "since the server began"
    )


def _counted(survey: Survey, name: str, tell: str) -> list[Measurement]:
    found = []
    for row in survey.rows("counters"):
        if row.get(name) is None:
            continue
        if row.get("seconds") is None:
            found.append(Measurement(missing="since when it is counted is not known", scope=text(row, "name")))
            continue
        amount = human_size(number(row, name)) if name.endswith("bytes") else f"{whole(row, name):,}"
        found.append(
            Measurement(
                value=round(_hourly(row, name), 4),
                detail=(f"{amount} {tell} {_since(row)}",),
                scope=text(row, "name"),
            )
        )
    return sorted(found, key=lambda item: -float(str(item.value or 0)))


def _temp(survey: Survey) -> list[Measurement]:
    return _counted(survey, "temp_bytes", "of temporary files")


def _deadlocks(survey: Survey) -> list[Measurement]:
    return _counted(survey, "deadlocks", "deadlocks")


def _checksums(survey: Survey) -> list[Measurement]:
    rows = survey.rows("counters")
    if any(text(row, "checksums") == "off" for row in rows):
        return [Measurement(missing="data checksums are off, so nobody would notice a damaged page")]
    found = []
    for row in rows:
        ago = row.get("failure_ago")
        told = "" if ago is None else f"the last one {human_duration(number(row, 'failure_ago'))} ago"
        found.append(
            Measurement(
                value=whole(row, "checksum_failures"),
                scope=text(row, "name"),
                detail=(told,) if told else (),
                remedy=Remedy("integrity", {}, f"pages of {text(row, 'name')} failed their checksum: do not restart"),
            )
        )
    return found


def _statements(survey: Survey) -> list[Measurement]:
    """Mean time of the slowest statements."""

    def read(database: str, rows: Sequence[Row]) -> list[Measurement]:
        if rows and all(bool(row["hidden"]) for row in rows):
            return [needs(survey.facts, MONITOR)]
        return [
            Measurement(
                value=round(number(row, "mean"), 4),
                samples=whole(row, "calls"),
                detail=(
                    f"{whole(row, 'calls'):,} calls, {number(row, 'total') / 1000:.1f} s in all, as"
                    f" {text(row, 'role')}: {statement(text(row, 'query'))}",
                ),
                scope=survey.place(database, f"query {text(row, 'id')}"),
            )
            for row in rows
        ]

    return each_database(survey, "statements", read) or [Measurement(value=0, detail=("none was called often enough",))]


def _settings(survey: Survey) -> list[Measurement]:
    rows = {text(row, "name"): row for row in survey.rows("settings")}
    values = {name: text(row, "setting") for name, row in rows.items()}
    found = [
        _setting(name, how, f"{name} = {bad}: {why}") for name, bad, how, why in DANGERS if values.get(name) == bad
    ]
    mode = values.get("archive_mode", "off")
    if mode != "off" and not survey.facts.may("pg_read_all_settings"):
        what = "whether anything archives is not visible"
        found.append(replace(needs(survey.facts, MONITOR, what), scope="archive_command"))
    elif mode != "off":
        archiver = survey.row("archiver")
        if not (text(archiver, "command") or text(archiver, "library")):
            found.append(_setting("archive_mode", UNWISE, f"archive_mode = {mode} and nothing that archives"))
    rpo = survey.expected.rpo
    timeout = float(values.get("archive_timeout") or 0)
    if mode != "off" and rpo is not None and (timeout == 0 or timeout > rpo / 2):
        said = "off" if timeout == 0 else human_duration(timeout)
        found.append(
            _setting(
                "archive_timeout",
                UNWISE,
                f"archive_timeout is {said}, and half of the RPO is {human_duration(rpo / 2)}",
            )
        )
    if values.get("max_slot_wal_keep_size") == "-1" and survey.rows("slots"):
        found.append(
            _setting("max_slot_wal_keep_size", UNWISE, "a slot whose consumer is gone keeps WAL until the disk is full")
        )
    if survey.expected.replicas and values.get("wal_level") == "minimal":
        found.append(_setting("wal_level", UNWISE, "wal_level = minimal lets no standby follow"))
    for name, wanted in sorted(survey.expected.values.items()):
        if name not in values:
            found.append(Measurement(missing="there is no such setting, or it is not visible", scope=name))
        elif values[name] != wanted:
            found.append(_setting(name, UNWISE, f"{name} = {values[name]}, and the inventory asks for {wanted}"))
    if values.get("idle_in_transaction_session_timeout") == "0":
        found.append(
            _setting(
                "idle_in_transaction_session_timeout", HINT, "0: a forgotten transaction holds dead rows back for ever"
            )
        )
    return found or [Measurement(value=OK)]


def _setting(name: str, value: str, why: str) -> Measurement:
    return Measurement(value=value, detail=(why,), scope=name, remedy=Remedy("", {}, why))


def _pending(survey: Survey) -> list[Measurement]:
    return [
        Measurement(
            value=1,
            scope=text(row, "name"),
            detail=(f"{text(row, 'name')} was changed and takes a restart",),
            remedy=Remedy("", {}, f"{text(row, 'name')} is not what the configuration says until a restart"),
        )
        for row in survey.rows("settings")
        if row["pending_restart"]
    ] or [Measurement(value=0)]


UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "us": 0.000001, "": 0.001}


def setting_seconds(value: str, unit: str = "") -> float | None:
    """A timeout as PostgreSQL writes it ("30s", "2min", 500 with the unit ms); None when it is no time."""
    digits = value.strip().rstrip("abcdefghijklmnopqrstuvwxyz ")
    suffix = value.strip()[len(digits) :].strip() or unit
    try:
        return float(digits) * UNITS[suffix]
    except (ValueError, KeyError):
        return None


def _timeouts(survey: Survey) -> list[Measurement]:
    """Whether the timeouts that the inventory asks for stand; the value is the one in force in seconds, 0 for none."""
    given = survey.rows("given_settings")
    servers = {
        text(row, "name"): setting_seconds(text(row, "setting"), text(row, "unit")) for row in survey.rows("settings")
    }
    found = []
    for wanted in survey.expected.timeouts:
        scope = " of ".join(part for part in (wanted.setting, wanted.role, wanted.database) if part)
        value = _in_force(wanted, given)
        if value is None and _ours_hides(wanted, given, survey):
            why = f"the server's own {wanted.setting} is hidden from {survey.facts.role}, which has one of its own"
            found.append(Measurement(missing=why, scope=scope))
            continue
        value = servers.get(wanted.setting) if value is None else value
        said = "is off" if not value else f"is {value:g} s"
        good = bool(value) and value is not None and value <= wanted.at_most
        found.append(
            Measurement(
                value=OK if good else UNWISE,
                scope=scope,
                detail=(f"{said}; at most {wanted.at_most:g} s are asked for: {_alter(wanted)}",),
                remedy=Remedy("", {}, _alter(wanted)),
            )
        )
    return found or [Measurement(value=OK, detail=("the inventory asks for no timeout",))]


def _in_force(wanted: Timeout, given: Sequence[Row]) -> float | None:
    """As a new session of that role in that database gets it: role in database, role, database; None: the server's."""
    places = ((wanted.role, wanted.database), (wanted.role, ""), ("", wanted.database))
    for role, database in places:
        for row in given:
            if (text(row, "role"), text(row, "database"), text(row, "name")) == (role, database, wanted.setting):
                return setting_seconds(text(row, "setting"))
    return None


def _ours_hides(wanted: Timeout, given: Sequence[Row], survey: Survey) -> bool:
    """Whether our own session starts with another value than the server's."""
    ours = ("", survey.facts.role), ("", survey.facts.database)
    return any(
        text(row, "name") == wanted.setting and text(row, "role") in ours[0] and text(row, "database") in ours[1]
        for row in given
    )


def _alter(wanted: Timeout) -> str:
    value = f"{wanted.setting} = '{wanted.at_most:g}s'"
    if wanted.role:
        within = f" IN DATABASE {wanted.database}" if wanted.database else ""
        return f"ALTER ROLE {wanted.role}{within} SET {value}"
    return f"ALTER DATABASE {wanted.database} SET {value}" if wanted.database else f"ALTER SYSTEM SET {value}"


def _collations(survey: Survey) -> list[Measurement]:
    found = [
        _collation(f"database {text(row, 'name')}", row, "every index on text sorted by the database's collation")
        for row in survey.rows("database_collations")
        if row.get("kept") != row.get("actual")
    ]

    def read(database: str, rows: Sequence[Row]) -> list[Measurement]:
        return [
            _collation(
                survey.place(database, f"{text(row, 'schema')}.{text(row, 'name')}"),
                row,
                f"{whole(row, 'indexed')} columns of indexes",
            )
            for row in rows
        ]

    return found + each_database(survey, "collations", read) or [Measurement(value=0)]


def _collation(scope: str, row: Row, what: str) -> Measurement:
    was, now = text(row, "kept"), text(row, "actual") or "gone"
    return Measurement(
        value=1,
        scope=scope,
        detail=(f"made with version {was}, the library has {now}: {what} may be in the wrong order",),
        remedy=Remedy(
            "integrity", {}, f"{scope} sorts by {now}, its indexes by {was}: check them, reindex, then REFRESH VERSION"
        ),
    )


def _recovery_point(survey: Survey) -> list[Measurement]:
    points = survey.points
    if points is None:
        return [Measurement(missing="no store is given, so nobody can tell what a restore would bring back")]
    found = []
    for point in seen(points):
        scope = point.tenant or ", ".join(point.schemas) or point.database
        backup = Remedy("backup", {}, point.sentence)
        if point.verdict == "unknown":
            found.append(Measurement(missing="saasops_rpo is not set, so its age cannot be judged", scope=scope))
        else:
            found.append(Measurement(value=point.verdict, scope=scope, detail=(point.sentence,), remedy=backup))
    return found


def _check(name: str, title: str, unit: str, warning: str, critical: str, priority: int) -> Check:
    return Check(name, "builtin", warning, critical, unit, title=title, priority=priority)


CHECKS = (
    PgCheck(
        _check("checksum_failures", "pages that failed their checksum", "pages", "", "> 0", 1),
        "database",
        "",
        ("counters",),
        _checksums,
    ),
    PgCheck(
        _check(
            "recovery_point", "newest proven recovery point against the RPO", "", "== 'warning'", "== 'critical'", 15
        ),
        "cluster",
        "",
        (),
        _recovery_point,
    ),
    PgCheck(
        _check("settings", "settings that endanger data", "", f"== '{UNWISE}'", f"== '{DANGER}'", 65),
        "cluster",
        "pg_read_all_settings",
        ("settings", "archiver", "slots"),
        _settings,
    ),
    PgCheck(
        _check("timeouts", "timeouts that the inventory asks for", "", f"== '{UNWISE}'", "", 66),
        "cluster",
        "",
        ("settings", "given_settings"),
        _timeouts,
    ),
    PgCheck(
        _check("pending_restart", "settings that wait for a restart", "settings", "> 0", "", 80),
        "cluster",
        "",
        ("settings",),
        _pending,
    ),
    PgCheck(
        _check("deadlocks", "deadlocks per hour", "per hour", "> 1", "> 10", 58),
        "database",
        "",
        ("counters",),
        _deadlocks,
    ),
    PgCheck(
        _check("temp_files", "temporary files per hour", "B", "> 1 GB", "> 10 GB", 68),
        "database",
        "",
        ("counters",),
        _temp,
    ),
    PgCheck(
        _check("slow_statements", "mean time of the slowest statements", "ms", "> 1 s", "> 10 s", 67),
        "database",
        MONITOR,
        ("statements",),
        _statements,
    ),
    PgCheck(
        _check("collation_versions", "collations that changed below their indexes", "collations", "> 0", "", 53),
        "database",
        "",
        ("database_collations", "collations"),
        _collations,
    ),
)
