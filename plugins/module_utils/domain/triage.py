# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Triage: which checks are looked at first, in which order their remedies come, and how it all reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_size
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import (
    Check,
    Level,
    Measurement,
    Outcome,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.ladder import (
    DOWN,
    FULL,
    HANGS,
    REFUSED,
    STARTING,
    UNREACHABLE,
    UP,
    Attempt,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import Remedy, command, told
from ansible_collections.saasops.runbook.plugins.module_utils.domain.units import shown

MOST = 3  # commands
# What is done first, whatever its level: damage that grows, then what stops everybody, then whoever waits now, then
# what only fills up. Checks that are not named here come last.
HARM: Mapping[str, int] = {
    "checksum_failures": 0,
    "server": 1,
    "disk": 2,
    "wraparound": 2,
    "blocked_sessions": 3,
    "blocked_count": 3,
    "connections": 4,
    "prepared_transactions": 5,
    "idle_in_transaction": 5,
    "longest_transaction": 6,
    "longest_query": 6,
}
LATER = 9

# the built-in checks that a first look takes, cheap on any server
NAMES = (
    "blocked_sessions",
    "blocked_count",
    "connections",
    "idle_in_transaction",
    "longest_transaction",
    "longest_query",
    "prepared_transactions",
    "standbys_missing",
    "replication_lag_bytes",
    "replay_delay",
    "wal_receiver",
    "replication_slots",
    "replication_slot_wal",
    "wal_archiving",
    "wraparound",
    "freeze_age",
    "removable_horizon",
    "checksum_failures",
)

SERVER = Check("server", "builtin", "", f"!= '{UP}'", title="the server", when_down=Level.CRITICAL, priority=1)
DISK = Check("disk", "builtin", "> 85 %", "> 95 %", "%", title="disk of the data directory", priority=2)

_ADVICE: Mapping[str, str] = {
    STARTING: "it starts, recovers or shuts down by itself: wait, watch its log, and do not kill it",
    FULL: "every slot is taken, the reserved ones too: set saasops_rescue_connection, or let the module run as root on"
    " the server's host",
    REFUSED: "it answers and lets nobody in: check user, password and pg_hba.conf",
    HANGS: "it takes connections and does not answer: look at its process (stopped, waiting for its disk) before a"
    " restart, which would have to recover",
    DOWN: "it does not run: read the end of its log before it is started",
    UNREACHABLE: "nothing answers at its address: check the host, the network and the firewall between",
}


def rank(outcomes: Sequence[Outcome], most: int = MOST) -> list[tuple[Outcome, Remedy]]:
    """At most so many different commands: the worst harm first, then the level, then the check's priority.

    Each check gives its first command before any gives a second one.
    """
    order = sorted(
        (item for item in outcomes if item.level in (Level.WARNING, Level.CRITICAL)),
        key=lambda item: (HARM.get(item.name, LATER), -item.level.rank, item.check.priority, item.name),
    )
    chosen: list[tuple[Outcome, Remedy]] = []
    deepest = max((len(item.remedies) for item in order), default=0)
    for turn in range(deepest):
        for item in order:
            for remedy in item.remedies[turn : turn + 1]:
                same = any((its.verb, its.variables) == (remedy.verb, remedy.variables) for _of, its in chosen)
                if remedy.verb and not same:
                    chosen.append((item, remedy))
    return chosen[:most]


def advice(outcomes: Sequence[Outcome], most: int = MOST) -> list[str]:
    """What no verb does, of what is not ok, in the same order as commands."""
    order = sorted(
        (item for item in outcomes if item.level in (Level.WARNING, Level.CRITICAL)),
        key=lambda item: (HARM.get(item.name, LATER), -item.level.rank, item.check.priority, item.name),
    )
    said = [remedy.why for item in order for remedy in item.remedies if not remedy.verb and remedy.why]
    return list(dict.fromkeys(said))[:most]


def server_measured(state: str, seen: Sequence[str]) -> Measurement:
    """The server itself as a measurement; seen: what could be told without a connection."""
    detail = tuple(seen)
    if state == UP:
        return Measurement(value=UP, detail=detail)
    return Measurement(
        value=state,
        detail=detail,
        remedy=Remedy(
            "",
            {},
            f"the server is {state}: {_ADVICE[state]}"
            if state in (DOWN, FULL, STARTING, UNREACHABLE)
            else f"the server {state}: {_ADVICE[state]}",
        ),
    )


def disk_measured(path: str, free: int, total: int) -> Measurement:
    """Share of a volume that is taken; free and total in bytes, as an unprivileged process may use it."""
    said = f"{human_size(free)} of {human_size(total)} are free at {path}"
    return Measurement(
        value=round(100.0 * (total - free) / max(total, 1), 2),
        detail=(said,),
        remedy=Remedy(
            "",
            {},
            f"{said}: find what grows (WAL that a slot or the archive holds, logs, temporary files); never"
            " delete in pg_wal by hand",
        ),
    )


def _said(item: Outcome) -> str:
    """What was measured, in one line; the thresholds only where something is the matter."""
    if item.level is not Level.OK:
        return item.why
    beside = f", {item.detail[0]}" if item.detail else ""
    return f"{item.scope + ': ' if item.scope else ''}{_short(item)}{beside}"


def _short(item: Outcome) -> str:
    value = round(item.value, 2) if isinstance(item.value, float) else item.value
    return str(value) if isinstance(value, str) else shown(value, item.unit)


def render(
    name: str,
    level: Level,
    outcomes: Sequence[Outcome],
    attempts: Sequence[Attempt],
    inventory: Sequence[str],
    limit: str,
    seconds: float,
) -> tuple[list[str], list[str]]:
    """(lines for a terminal, the commands alone)."""
    through = next((attempt.rung.title for attempt in attempts if attempt.led_in), "")
    how = f"through {through}" if through else "without a connection"
    lines = [f"{name}: {level.value.upper()}, looked {how} in {seconds:.1f} s"]
    if not through or len(attempts) > 1:
        lines += [f"  tried {attempt.line}" for attempt in attempts]
    ordered = sorted(outcomes, key=lambda item: (-item.level.rank, HARM.get(item.name, LATER), item.check.priority))
    for item in ordered:
        lines.append(f"{item.level.value:<12} {item.title}: {_said(item)}")
        if item.level is not Level.OK and item.name != SERVER.name:
            lines += [f"{'':<12}   {line}" for line in item.detail[:8]]
    chosen = rank(outcomes)
    commands = [command(remedy, inventory, limit) for _of, remedy in chosen]
    if commands:
        lines.append("do this first:")
        for number, ((_of, remedy), line) in enumerate(zip(chosen, commands), 1):
            lines += [f"  {number}. {line}", f"     {told(remedy)}"]
    words = advice(outcomes)
    if words:
        lines.append("by hand, no verb does it:")
        lines += [f"  - {word}" for word in words]
    if not commands and not words:
        lines.append("nothing that a command would cure")
    return lines, commands
