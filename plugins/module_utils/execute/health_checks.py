# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of an inventory, read and refused before anything is measured; and how each is measured."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Level
from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import Remedy, check_remedy
from ansible_collections.saasops.runbook.plugins.module_utils.execute.health_builtin import BUILTINS, Builtin, Scene
from ansible_collections.saasops.runbook.plugins.module_utils.measure.command import open_command
from ansible_collections.saasops.runbook.plugins.module_utils.measure.file import open_file
from ansible_collections.saasops.runbook.plugins.module_utils.measure.gather import Group, Measured, broken
from ansible_collections.saasops.runbook.plugins.module_utils.measure.http import open_http
from ansible_collections.saasops.runbook.plugins.module_utils.measure.options import Options, bad_check
from ansible_collections.saasops.runbook.plugins.module_utils.measure.promql import open_promql
from ansible_collections.saasops.runbook.plugins.module_utils.measure.redis_server import open_redis
from ansible_collections.saasops.runbook.plugins.module_utils.measure.sql import ask_all, read_only, read_query
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session

# What is measured by itself, each in a thread of its own.
SOURCES: Mapping[str, Callable[[Check, Options], Group]] = {
    "http": open_http,
    "promql": open_promql,
    "command": open_command,
    "redis": open_redis,
    "file": open_file,
}
ALL_SOURCES = (*SOURCES, "sql", "builtin")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_UNITS = {"http": "", "file": "s", "redis": ""}
BUILTIN_TIMEOUT = 30.0  # seconds, of each built-in check


@dataclass(frozen=True)
class Asked:
    """A check with what its source needs: the options (not of a built-in one), timeout in seconds."""

    check: Check
    options: Options
    builtin: Builtin | None = None


def read_checks(params: Mapping[str, object], with_builtin: bool) -> list[Asked]:
    """Every check that is not switched off: the built-in ones first, then the inventory's, each in its order.

    Raises OpsError bad_check, bad_threshold, bad_remedy.
    """
    builtins = {item.check.name: item for item in BUILTINS} if with_builtin else {}
    known = {item.check.name for item in BUILTINS}
    own: list[Asked] = []
    changed: dict[str, Asked | None] = {}
    for entry in cast("Sequence[Mapping[str, object]]", params.get("checks") or []):
        name = str(entry.get("name") or "")
        if not _NAME.match(name):
            raise bad_check(repr(name), "this is no name.", "Use letters, digits, _, . and -, at most 63 of them.")
        source = _source(name, entry)
        if name in changed or any(item.check.name == name for item in own):
            raise bad_check(name, "there are two of this name.", "Rename one of them.")
        if (source == "builtin") != (name in known):
            raise bad_check(
                name,
                "no built-in check has this name." if source == "builtin" else "a built-in check has this name.",
                f"Built-in are: {', '.join(sorted(known)) or 'none'}.",
            )
        if source == "builtin":
            item = builtins.get(name)
            changed[name] = _changed(item, entry) if item and entry.get("enabled") is not False else None
            continue
        asked = _asked(name, source, entry)
        if entry.get("enabled") is not False:
            own.append(asked)
    for item in builtins.values():
        changed.setdefault(item.check.name, _changed(item, {}))
    of_ours = [changed[name] for name in builtins]
    return [asked for asked in (*of_ours, *own) if asked is not None]


def _source(name: str, entry: Mapping[str, object]) -> str:
    given = [source for source in ALL_SOURCES if entry.get(source) not in (None, False)]
    if len(given) != 1:
        raise bad_check(
            name,
            f"it names {' and '.join(given) or 'no source'}.",
            f"Give exactly one of {', '.join(sorted(ALL_SOURCES))}.",
        )
    return given[0]


def _asked(name: str, source: str, entry: Mapping[str, object]) -> Asked:
    given = cast("Mapping[str, object]", entry[source])
    unit = _text(entry, "unit") or _UNITS.get(source, "")
    if source == "file" and given.get("measure") == "size" and not _text(entry, "unit"):
        unit = "B"
    if source in ("http", "redis") and not _text(entry, "unit") and _measures_time(source, given):
        unit = "s"
    check = Check(
        name=name,
        source=source,
        warning=_text(entry, "warning"),
        critical=_text(entry, "critical") or _usual(source, given, entry),
        unit=unit,
        minimum_samples=int(str(entry.get("minimum_samples") or 1)),
        hold=_text(entry, "hold"),
        remedy=_remedy(entry),
        title=_text(entry, "title"),
        when_down=Level(_text(entry, "when_down") or ("critical" if source == "file" else "inconclusive")),
        priority=int(str(entry.get("priority") if entry.get("priority") is not None else 50)),
    )
    check.thresholds()
    return Asked(check, Options(name, given, _timeout(entry, 10.0)))


def _measures_time(source: str, given: Mapping[str, object]) -> bool:
    return bool(given.get("latency")) if source == "http" else not any(given.get(n) for n in ("info", "llen", "zcard"))


def _usual(source: str, given: Mapping[str, object], entry: Mapping[str, object]) -> str:
    """The threshold of a status or an exit code for which nobody wrote one."""
    if _text(entry, "warning"):
        return ""
    if source == "http" and not given.get("json") and not given.get("latency"):
        accepted = cast("Sequence[object]", given.get("status") or [])
        return " and ".join(f"!= {int(str(status))}" for status in accepted) or "not between 200 and 299"
    if source == "command" and not any(given.get(n) for n in ("json", "pattern")):
        return "!= 0" if (given.get("value") or "exit") == "exit" else ""
    return ""


def _changed(item: Builtin, entry: Mapping[str, object]) -> Asked:
    """A built-in check with what the inventory says instead. Raises OpsError bad_threshold, bad_remedy."""
    check = item.check
    texts = {name: str(entry[name]) for name in ("warning", "critical", "hold", "title") if entry.get(name) is not None}
    check = replace(check, **texts)  # type: ignore[arg-type]
    for name in ("minimum_samples", "priority"):
        if entry.get(name) is not None:
            check = replace(check, **{name: int(str(entry[name]))})  # type: ignore[arg-type]
    if entry.get("when_down"):
        check = replace(check, when_down=Level(str(entry["when_down"])))
    remedy = _remedy(entry)
    check = replace(check, remedy=remedy) if remedy else check
    check.thresholds()
    return Asked(check, Options(check.name, {}, _timeout(entry, BUILTIN_TIMEOUT)), item)


def _remedy(entry: Mapping[str, object]) -> Remedy | None:
    given = cast("Mapping[str, object]", entry.get("remedy") or {})
    if not given:
        return None
    variables = cast("Mapping[str, str | int | float | bool]", given.get("variables") or {})
    remedy = Remedy(_text(given, "verb"), dict(variables), _text(given, "why"))
    check_remedy(remedy)
    return remedy


def _text(entry: Mapping[str, object], name: str) -> str:
    value = entry.get(name)
    return "" if value is None else str(value).strip()


def _timeout(entry: Mapping[str, object], default: float) -> float:
    value = entry.get("timeout")
    return max(0.1, default if value is None else float(str(value)))


def groups(asked: Sequence[Asked], params: Mapping[str, object], target: Target, now: float) -> list[Group]:
    """What is measured side by side: everything alone, but the queries of one database over one session.

    Raises OpsError bad_check.
    """
    found: list[Group] = []
    databases: dict[str, list[Asked]] = {}
    for item in asked:
        if item.check.source in SOURCES:
            found.append(SOURCES[item.check.source](item.check, item.options))
        else:
            database = item.options.text("database") or str(params.get("database") or "")
            databases.setdefault(database, []).append(item)
    tenants = [str(item) for item in cast("Sequence[object]", params.get("tenant_schemas") or [])]
    for database, items in databases.items():
        found.append(_in_database(database, items, tenants, params, target, now))
    return found


def _in_database(
    database: str,
    items: Sequence[Asked],
    tenants: Sequence[str],
    params: Mapping[str, object],
    target: Target,
    now: float,
) -> Group:
    queries = [read_query(item.check, item.options, tenants) for item in items if item.builtin is None]
    builtins = [item for item in items if item.builtin is not None]
    connect = target.connection.connect_timeout
    limits = {item.check.name: item.options.timeout for item in (*builtins, *(i for i in items if i.builtin is None))}
    # the first one waits for the connection as well
    limits = {name: limit + (connect if not number else 0) for number, (name, limit) in enumerate(limits.items())}

    def run() -> Iterator[Measured]:
        if not database:
            raise OpsError("not_configured", "no database is named", "Set saasops_database in the inventory.")
        with _session(target, database, params) as session:
            yield from _ask_builtins(session, target, database, builtins, params, now)
            yield from ask_all(session, queries)

    return Group(limits, run)


@contextlib.contextmanager
def _session(target: Target, database: str, params: Mapping[str, object]) -> Iterator[Session]:
    """A session; through the second way in when every ordinary slot is taken."""
    try:
        session = target.session(database)
    except OpsError as error:
        rescue = params.get("rescue_connection")
        if error.code != "no_free_connection" or not rescue:
            raise
        session = Target.from_params(cast("Mapping[str, object]", rescue), "saasops health").session(database)
    try:
        yield session
    finally:
        session.close()


def _ask_builtins(
    session: Session, target: Target, database: str, items: Sequence[Asked], params: Mapping[str, object], now: float
) -> Iterator[Measured]:
    cache: dict[str, object] = {}
    for item in items:
        if item.builtin is None:
            continue
        try:
            with read_only(session, item.options.timeout):
                measurements = item.builtin.measure(Scene(session, target, database, params, now, cache))
        except OpsError as error:
            yield item.check.name, [broken(error)]
            if error.code in ("session_ended", "server_starting"):
                raise
        else:
            yield item.check.name, measurements
