# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Built-in checks of replication and WAL: standbys, replay, slots, archiving."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, human_size
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Level, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import (
    MONITOR,
    PgCheck,
    Row,
    Survey,
    needs,
    number,
    text,
    whole,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import Remedy

ABOVE_ZERO = "> 0"


def _standbys(survey: Survey) -> list[Measurement]:
    """How many standbys of those that the inventory names are missing."""
    wanted = survey.expected.replicas
    connected = [text(row, "name") for row in survey.rows("senders")]
    said = f"{len(connected)} connected" + (f": {', '.join(connected)}" if connected else "")
    if wanted is None:
        return [Measurement(value=0, detail=(f"{said}; saasops_replicas does not say how many there ought to be",))]
    return [Measurement(value=max(0, wanted - len(connected)), detail=(f"{said}; {wanted} expected",))]


def _lag_bytes(survey: Survey) -> list[Measurement]:
    if not survey.facts.sees_sessions and survey.facts.standbys:
        return [needs(survey.facts, MONITOR)]
    return [
        Measurement(
            value=whole(row, "behind"),
            detail=(
                f"{text(row, 'name')} {text(row, 'client')}, {text(row, 'state')}, {text(row, 'sync_state')}:"
                f" {human_size(number(row, 'unsent'))} not sent yet",
            ),
            scope=text(row, "name"),
        )
        for row in survey.rows("senders")
    ] or [Measurement(value=0, detail=("no standby is connected",))]


def _lag_seconds(survey: Survey) -> list[Measurement]:
    """The primary's side by replay_lag; the standby's by the age of what it replayed last."""
    if not survey.facts.sees_sessions and survey.facts.standbys:
        return [needs(survey.facts, MONITOR)]
    found = [_sender_seconds(row) for row in survey.rows("senders")]
    return found or [Measurement(value=0, detail=("no standby is connected",))]


def _sender_seconds(row: Row) -> Measurement:
    name, behind = text(row, "name"), whole(row, "behind")
    if row.get("seconds") is None and behind > 0:
        return Measurement(missing=f"it is {behind} bytes behind and reports no time", scope=name)
    return Measurement(value=round(number(row, "seconds"), 4), scope=name, detail=(text(row, "state"),))


def _replay_delay(survey: Survey) -> list[Measurement]:
    """On a standby: how old what a reader sees is. 0 when everything that arrived was replayed and the stream lives."""
    row = survey.row("receiver")
    if not row["standby"]:
        return [Measurement(value=0, detail=("this server is a primary",))]
    behind, since = whole(row, "behind"), row.get("since_last")
    streaming = text(row, "receiver") == "streaming"
    told = [f"{human_size(behind)} received and not replayed"]
    remedy = None
    if row["paused"]:
        told.append("replay is paused")
        remedy = Remedy("", {}, "replay is paused: SELECT pg_wal_replay_resume() goes on, if nobody wants it so")
    if behind <= 0 and streaming:
        return [Measurement(value=0.0, detail=tuple(told))]
    if since is None:
        # not one commit was replayed since it was started: what it shows is older than that
        age = survey.facts.now - survey.facts.started
        return [Measurement(value=round(age, 4), detail=(*told, "at least: nothing was replayed yet"), remedy=remedy)]
    return [Measurement(value=round(number(row, "since_last"), 4), detail=tuple(told), remedy=remedy)]


def _receiver(survey: Survey) -> list[Measurement]:
    """On a standby: whether WAL arrives."""
    row = survey.row("receiver")
    if not row["standby"]:
        return [Measurement(value="streaming", detail=("this server is a primary",))]
    if not row["streams"]:
        return [Measurement(value="streaming", detail=("primary_conninfo is empty: it recovers from an archive",))]
    if row.get("receiver") is None:
        if not survey.facts.sees_sessions:
            return [needs(survey.facts, MONITOR)]
        return [Measurement(value="stopped", detail=("no WAL receiver runs: see the standby's log",))]
    if text(row, "receiver") == "?":
        return [needs(survey.facts, MONITOR)]
    return [Measurement(value=text(row, "receiver"))]


def _slot_state(row: Row) -> str:
    if text(row, "lost"):
        return "lost"
    if text(row, "wal_status") == "unreserved":
        return "unreserved"
    return "active" if row["active"] else "inactive"


def _slot_line(row: Row) -> str:
    of = f" of database {text(row, 'database')}" if text(row, "database") else ""
    parts = [f"{text(row, 'type')} slot{of}", f"wal_status {text(row, 'wal_status') or '-'}"]
    parts.append(f"keeps {human_size(number(row, 'retained'))} of WAL")
    if row.get("safe") is not None:
        parts.append(f"{human_size(number(row, 'safe'))} until it is lost")
    if row.get("inactive") is not None:
        parts.append(f"inactive for {human_duration(number(row, 'inactive'))}")
    if text(row, "lost"):
        parts.append(text(row, "lost"))
    return ", ".join(parts)


def _drop(row: Row, why: str) -> Remedy:
    return Remedy(
        "",
        {},
        f"{why}: bring its consumer back, or, when that is gone for good, SELECT pg_drop_replication_slot("
        f"'{text(row, 'name')}')",
    )


def _slots(survey: Survey) -> list[Measurement]:
    return [
        Measurement(
            value=_slot_state(row),
            detail=(_slot_line(row),),
            scope=text(row, "name"),
            remedy=_drop(row, f"slot {text(row, 'name')} is {_slot_state(row)}"),
        )
        for row in survey.rows("slots")
    ] or [Measurement(value="active", detail=("no replication slot",))]


def _slot_wal(survey: Survey) -> list[Measurement]:
    return [
        Measurement(
            value=max(0, whole(row, "retained")),
            detail=(_slot_line(row),),
            scope=text(row, "name"),
            remedy=_drop(row, f"slot {text(row, 'name')} keeps {human_size(number(row, 'retained'))} of WAL"),
        )
        for row in survey.rows("slots")
        if row.get("retained") is not None
    ] or [Measurement(value=0, detail=("no slot keeps WAL",))]


def _archiving(survey: Survey) -> list[Measurement]:
    """Whether WAL reaches the archive: ok, off, failing, or stuck where there is nothing to run."""
    row = survey.row("archiver")
    mode = text(row, "mode")
    if mode == "off" or (survey.facts.standby and mode != "always"):
        return [Measurement(value="off", detail=(f"archive_mode is {mode}",))]
    readable = survey.facts.may("pg_read_all_settings")
    command = bool(text(row, "command") or text(row, "library"))
    failed, archived = row.get("failed_ago"), row.get("archived_ago")
    told = [
        f"{whole(row, 'archived')} archived, "
        + ("none yet" if archived is None else f"the last one {human_duration(number(row, 'archived_ago'))} ago"),
    ]
    failing = failed is not None and (archived is None or number(row, "failed_ago") < number(row, "archived_ago"))
    if failing:
        told.append(
            f"{whole(row, 'failed')} attempts failed, the last one {human_duration(number(row, 'failed_ago'))} ago"
            f" ({text(row, 'failed_wal')})"
        )
    if not failing and not readable:
        return [needs(survey.facts, MONITOR, "whether anything archives is not visible")]
    if not command and readable:
        told.append("neither archive_command nor archive_library is set: WAL piles up until the disk is full")
    value = "failing" if failing else "ok" if command else "stuck"
    remedy = Remedy("", {}, "WAL is not archived: read why in the server's log; nothing is lost while its disk lasts")
    return [Measurement(value=value, detail=tuple(told), remedy=remedy)]


def _archive_waiting(survey: Survey) -> list[Measurement]:
    """How long the oldest finished segment has waited for the archive."""
    row = survey.row("archive_waiting")
    if not whole(row, "segments"):
        return [Measurement(value=0, detail=("no segment waits",))]
    return [
        Measurement(
            value=round(max(0.0, number(row, "oldest")), 4),
            samples=whole(row, "segments"),
            detail=(f"{whole(row, 'segments')} segments wait",),
        )
    ]


def _check(name: str, title: str, unit: str, warning: str, critical: str, priority: int) -> Check:
    return Check(name, "builtin", warning, critical, unit, title=title, when_down=Level.CRITICAL, priority=priority)


CHECKS = (
    PgCheck(
        _check("standbys_missing", "standbys that ought to be connected", "standbys", "", ABOVE_ZERO, 45),
        "cluster",
        MONITOR,
        ("senders",),
        _standbys,
    ),
    PgCheck(
        _check("replication_lag_bytes", "WAL that standbys have not replayed", "B", "> 100 MB", "> 1 GB", 46),
        "cluster",
        MONITOR,
        ("senders",),
        _lag_bytes,
    ),
    PgCheck(
        _check("replication_lag", "replay lag of standbys", "s", "> 30 s", "> 5 min", 47),
        "cluster",
        MONITOR,
        ("senders",),
        _lag_seconds,
    ),
    PgCheck(
        _check("replay_delay", "age of what this standby shows", "s", "> 30 s", "> 5 min", 47),
        "cluster",
        MONITOR,
        ("receiver",),
        _replay_delay,
    ),
    PgCheck(
        _check("wal_receiver", "this standby's stream", "", "!= 'streaming'", "== 'stopped'", 44),
        "cluster",
        MONITOR,
        ("receiver",),
        _receiver,
    ),
    PgCheck(
        _check(
            "replication_slots",
            "replication slots",
            "",
            "== 'inactive' or == 'unreserved'",
            "== 'lost'",
            48,
        ),
        "cluster",
        "",
        ("slots",),
        _slots,
    ),
    PgCheck(
        _check("replication_slot_wal", "WAL that a slot keeps", "B", "> 1 GB", "> 10 GB", 43),
        "cluster",
        "",
        ("slots",),
        _slot_wal,
    ),
    PgCheck(
        _check("wal_archiving", "WAL archiving", "", "", "== 'failing' or == 'stuck'", 42),
        "cluster",
        "pg_read_all_settings",
        ("archiver",),
        _archiving,
    ),
    PgCheck(
        _check("wal_archive_waiting", "oldest WAL segment that is not archived", "s", "> 5 min", "> 30 min", 42),
        "cluster",
        MONITOR,
        ("archive_waiting",),
        _archive_waiting,
    ),
)
