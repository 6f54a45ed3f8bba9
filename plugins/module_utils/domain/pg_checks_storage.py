# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Built-in checks of tables: freeze age, dead rows and what holds them back, bloat, sequences."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import Backend
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, human_size
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.domain.horizon import PREPARED, SESSION, Holder
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import (
    ANALYZE,
    REINDEX,
    REWRITE,
    VACUUM,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import (
    PgCheck,
    Row,
    Survey,
    each_database,
    needs,
    number,
    relation,
    seen,
    text,
    whole,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import Remedy

READ_ALL = "pg_read_all_data"
WRAP = 2**31 - 1
# transactions before the wraparound at which the server takes no more writes: (server_version_num, how many).
# xidStopLimit in SetTransactionIdLimit(), varsup.c; a multixact has the same in SetMultiXactIdLimit()
STOPS = ((0, 1_000_000), (140000, 3_000_000))


def stop_limit(version: int) -> int:
    """The age at which a server of this version (server_version_num) refuses to write."""
    return WRAP - next(margin for start, margin in reversed(STOPS) if version >= start)


def _freeze_age(survey: Survey) -> list[Measurement]:
    """Percent of autovacuum_freeze_max_age: above 100 autovacuum ought to be freezing already."""
    found = []
    for row in survey.rows("freeze_databases"):
        name = text(row, "name")
        for what, age, limit in (("", "xids", "xid_limit"), (" multixacts", "multis", "multi_limit")):
            found.append(
                Measurement(
                    value=round(100.0 * number(row, age) / max(number(row, limit), 1), 4),
                    detail=(f"{whole(row, age):,} of {whole(row, limit):,}",),
                    scope=f"{name}{what}",
                    remedy=_freeze(survey, name, row),
                )
            )
    return sorted(found, key=_by_value)


def _freeze(survey: Survey, database: str, row: Row) -> Remedy:
    if not row["connectable"]:
        return Remedy(
            "", {}, f"database {database} takes no connections, so nobody vacuums it by hand: allow them, or drop it"
        )
    # the measure that freezes is the vacuum; maintenance itself tells which tables are old
    variables = {"measures": VACUUM, **_other(survey, database)}
    return Remedy("maintenance", variables, f"{database} has old transaction ids to freeze")


def _other(survey: Survey, database: str) -> dict[str, str | int | float | bool]:
    """For a database that is not the system's own: what maintenance reads before saasops_maintenance.databases."""
    return {} if database == survey.databases[0] else {"databases": database}


def _wraparound(survey: Survey) -> list[Measurement]:
    """Percent of the way to the point where the server takes no more writes."""
    stop = stop_limit(survey.facts.version)
    found = []
    for row in survey.rows("freeze_databases"):
        name = text(row, "name")
        for what, age in (("", "xids"), (" multixacts", "multis")):
            left = stop - whole(row, age)
            found.append(
                Measurement(
                    value=round(100.0 * number(row, age) / stop, 4),
                    detail=(f"{left:,} transactions are left before the server refuses to write",),
                    scope=f"{name}{what}",
                    remedy=_freeze(survey, name, row),
                )
            )
    return sorted(found, key=_by_value)


def _by_value(item: Measurement) -> float:
    return -item.value if isinstance(item.value, (int, float)) else 1.0


def _freeze_tables(survey: Survey) -> list[Measurement]:
    def read(database: str, rows: Sequence[Row]) -> list[Measurement]:
        found = []
        for row in rows:
            xids = 100.0 * number(row, "xids") / max(number(row, "xid_limit"), 1)
            multis = 100.0 * number(row, "multis") / max(number(row, "multi_limit"), 1)
            name = relation(row)
            what = "multixacts" if multis > xids else "transactions"
            age = whole(row, "multis" if multis > xids else "xids")
            found.append(
                Measurement(
                    value=round(max(xids, multis), 4),
                    detail=(f"{age:,} {what}, {human_size(number(row, 'bytes'))}",),
                    scope=survey.place(database, name),
                    remedy=Remedy(
                        "maintenance",
                        {"tables": name, "measures": VACUUM, **_other(survey, database)},
                        f"{name} was last frozen {age:,} {what} ago",
                    ),
                )
            )
        return found

    return each_database(survey, "freeze_tables", read) or [Measurement(value=0)]


def _dead_rows(survey: Survey) -> list[Measurement]:
    def read(database: str, rows: Sequence[Row]) -> list[Measurement]:
        found = [_dead(survey, database, row) for row in rows if not row["unknown"]]
        unknown = max((whole(row, "unknown_tables") for row in rows), default=0)
        if unknown:
            names = [relation(row) for row in rows if row["unknown"]][:3]
            first = f" ({', '.join(names)}{', ...' if unknown > len(names) else ''})" if names else ""
            found.append(
                Measurement(
                    missing=f"statistics of {unknown} tables{first} are younger than the tables: reset, or lost in a"
                    " crash; ANALYZE counts anew",
                    scope=survey.place(database, "statistics"),
                    remedy=Remedy(
                        "maintenance",
                        {"measures": ANALYZE, **_other(survey, database)},
                        f"{unknown} tables have no statistics since a reset or a crash",
                    ),
                )
            )
        return found

    return each_database(survey, "dead_rows", read) or [
        Measurement(value=0, detail=("no table has dead rows to speak of",))
    ]


def _dead(survey: Survey, database: str, row: Row) -> Measurement:
    name, dead = relation(row), whole(row, "dead")
    ago = row.get("vacuumed_ago")
    vacuumed = "never vacuumed" if ago is None else f"vacuumed {human_duration(number(row, 'vacuumed_ago'))} ago"
    return Measurement(
        value=round(number(row, "percent"), 4),
        detail=(f"{dead:,} dead beside {whole(row, 'live'):,} live rows, {vacuumed}",),
        scope=survey.place(database, name),
        remedy=Remedy(
            "maintenance",
            {"tables": name, "measures": VACUUM, **_other(survey, database)},
            f"{name} has {dead:,} dead rows",
        ),
    )


def _bloat(survey: Survey, query: str, what: str) -> list[Measurement]:
    """Estimated from the planner's statistics, never measured: said in each line."""

    def read(database: str, rows: Sequence[Row]) -> list[Measurement]:
        found = [_bloated(survey, database, row, what) for row in rows if row["estimable"]]
        unknown = max((whole(row, "unknown_tables") for row in rows), default=0)
        if unknown:
            readable = all(bool(row["unknown_readable"]) for row in rows)
            names = [relation(row) for row in rows if not row["estimable"]][:3]
            first = f" ({', '.join(names)}{', ...' if unknown > len(names) else ''})" if names else ""
            scope = survey.place(database, "statistics")
            missing = f"{unknown} have no statistics to estimate from{first}; ANALYZE makes them"
            if not readable:
                missing = needs(survey.facts, _read_all(survey), f"{unknown} may not be read{first}").missing
            found.append(Measurement(missing=missing, scope=scope))
        return found

    return each_database(survey, query, read) or [Measurement(value=0, detail=("nothing large enough to matter",))]


def _read_all(survey: Survey) -> str:
    """The grant that shows statistics of columns; 13 has no role for it."""
    return READ_ALL if survey.facts.version >= 140000 else "SELECT ON ALL TABLES"


def _bloated(survey: Survey, database: str, row: Row, what: str) -> Measurement:
    name = relation(row)
    wasted, size = human_size(number(row, "wasted")), human_size(number(row, "bytes"))
    table = f"{text(row, 'schema')}.{text(row, 'table')}" if what == REINDEX else name
    only = "; without pg_repack it is rewritten in an open window of saasops_windows only" if what == REWRITE else ""
    return Measurement(
        value=round(number(row, "percent"), 4),
        detail=(f"estimated: {wasted} of {size} are not needed",),
        scope=survey.place(database, name),
        remedy=Remedy(
            "maintenance",
            {"tables": table, "measures": what, **_other(survey, database)},
            f"{name} is larger than its rows need by an estimated {wasted}{only}",
        ),
    )


def _table_bloat(survey: Survey) -> list[Measurement]:
    return _bloat(survey, "table_bloat", REWRITE)


def _index_bloat(survey: Survey) -> list[Measurement]:
    return _bloat(survey, "index_bloat", REINDEX)


def _horizon(survey: Survey) -> list[Measurement]:
    """Transactions that VACUUM must leave the dead rows of, for somebody who may still see them."""
    horizon = survey.horizon
    if horizon is None:
        return [Measurement(missing="it was not read")]
    found = seen(horizon)
    measured = [
        Measurement(
            value=holder.age,
            detail=(holder.tell(),),
            scope=f"{holder.kind} {holder.name}",
            remedy=_release(survey, holder),
        )
        for holder in sorted(found.holders, key=lambda item: -item.age)[:5]
        if not (holder.kind == SESSION and holder.name in {str(pid) for pid in survey.own})
    ]
    if not found.complete:
        measured.append(Measurement(missing=needs(survey.facts, "pg_monitor").missing, scope="sessions"))
    return measured or [Measurement(value=0, detail=("nobody holds dead rows back",))]


def _release(survey: Survey, holder: Holder) -> Remedy:
    why = holder.tell()
    if holder.kind == SESSION:
        backend = next((b for b in _backends(survey) if str(b.pid) == holder.name), None)
        if backend is not None and backend.kind == "client backend" and not backend.application.startswith("saasops"):
            return Remedy("sessions", {"pid": int(holder.name)}, why)
    if holder.kind == PREPARED:
        return Remedy("sessions", {"gid": holder.name}, why)
    return Remedy("", {}, why)


def _backends(survey: Survey) -> Sequence[Backend]:
    return () if isinstance(survey.backends, Exception) else survey.backends


def _sequences(survey: Survey) -> list[Measurement]:
    def read(database: str, rows: Sequence[Row]) -> list[Measurement]:
        found = []
        for row in rows:
            if row["readable"]:
                found.append(_sequence(survey, database, row))
        hidden = max((whole(row, "hidden") for row in rows), default=0)
        if hidden:
            right = READ_ALL if survey.facts.version >= 140000 else "SELECT ON ALL SEQUENCES"
            found.append(
                Measurement(
                    missing=needs(survey.facts, right, f"{hidden} sequences may not be read").missing,
                    scope=survey.place(database, "sequences"),
                )
            )
        return found

    return each_database(survey, "sequences", read) or [Measurement(value=0, detail=("no sequence",))]


def _sequence(survey: Survey, database: str, row: Row) -> Measurement:
    where = f" for {text(row, 'relation')}.{text(row, 'column')}" if text(row, "relation") else ""
    narrow = ", where the column ends before the sequence does" if row["narrower"] else ""
    return Measurement(
        value=round(number(row, "percent"), 7),
        detail=(f"{text(row, 'last') or 'not used'} of {text(row, 'bound')}{where}{narrow}",),
        scope=survey.place(database, relation(row)),
        remedy=Remedy("", {}, f"{relation(row)} runs out{where}: widen the column and the sequence by a migration"),
    )


def _check(name: str, title: str, unit: str, warning: str, critical: str, priority: int) -> Check:
    return Check(name, "builtin", warning, critical, unit, title=title, priority=priority)


CHECKS = (
    PgCheck(
        _check("wraparound", "way to the wraparound stop", "%", "> 50 %", "> 75 %", 5),
        "database",
        "",
        ("freeze_databases",),
        _wraparound,
    ),
    PgCheck(
        _check("freeze_age", "share of autovacuum_freeze_max_age", "%", "> 110 %", "> 200 %", 50),
        "database",
        "",
        ("freeze_databases",),
        _freeze_age,
    ),
    PgCheck(
        _check("freeze_tables", "tables longest not frozen", "%", "> 110 %", "> 200 %", 51),
        "relation",
        "",
        ("freeze_tables",),
        _freeze_tables,
    ),
    PgCheck(
        _check("removable_horizon", "who holds dead rows back", "transactions", "> 1000000", "> 50000000", 49),
        "cluster",
        "pg_monitor",
        (),
        _horizon,
    ),
    PgCheck(
        _check("dead_rows", "dead rows", "%", "> 30 %", "> 50 %", 55),
        "relation",
        "",
        ("dead_rows",),
        _dead_rows,
    ),
    PgCheck(
        _check("table_bloat", "bloat of tables (estimated)", "%", "> 50 %", "", 70),
        "relation",
        READ_ALL,
        ("table_bloat",),
        _table_bloat,
    ),
    PgCheck(
        _check("index_bloat", "bloat of btree indexes (estimated)", "%", "> 60 %", "", 71),
        "relation",
        READ_ALL,
        ("index_bloat",),
        _index_bloat,
    ),
    PgCheck(
        _check("sequences", "sequences near their end", "%", "> 75 %", "> 90 %", 52),
        "relation",
        READ_ALL,
        ("sequences",),
        _sequences,
    ),
)
