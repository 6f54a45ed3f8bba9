# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what maintenance decides on: thresholds, tables with their counters, indexes with their estimated air.

Nothing here opens a table, and no lock is waited for: a table that somebody holds ACCESS EXCLUSIVE is seen by its
pages in the catalog.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import (
    BLOCK,
    Index,
    Settings,
    Table,
    Toast,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_bloat import (
    Column,
    index_air,
    table_air,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Row, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

_SETTINGS = {
    "autovacuum_vacuum_threshold": "dead_rows",
    "autovacuum_vacuum_scale_factor": "dead_share",
    "autovacuum_vacuum_max_threshold": "max_dead",
    "autovacuum_vacuum_insert_threshold": "inserted_rows",
    "autovacuum_vacuum_insert_scale_factor": "inserted_share",
    "autovacuum_analyze_threshold": "changed_rows",
    "autovacuum_analyze_scale_factor": "changed_share",
    "autovacuum_freeze_max_age": "freeze_age",
    "autovacuum_multixact_freeze_max_age": "multixact_age",
}

# The functions behind pg_stat_all_tables, without the joins of that view. A table's size is asked for where nobody
# holds it against readers; pg_relation_size would wait.
_TABLES = """
WITH shut AS MATERIALIZED (
     SELECT DISTINCT relation AS oid FROM pg_locks
      WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
), working AS MATERIALIZED (
     SELECT p.relid AS oid, bool_or(coalesce(a.query, '') LIKE '%to prevent wraparound%') AS wraparound
       FROM (SELECT pid, relid FROM pg_stat_progress_vacuum UNION ALL SELECT pid, relid FROM pg_stat_progress_analyze) p
       LEFT JOIN pg_stat_activity a ON a.pid = p.pid
      WHERE a.application_name IS DISTINCT FROM {mark}
      GROUP BY p.relid
), indexed AS MATERIALIZED (
     SELECT indrelid AS oid, sum(pg_stat_get_numscans(indexrelid))::bigint AS scans
       FROM pg_index GROUP BY indrelid
), owner AS (
     SELECT rolsuper OR pg_has_role(d.datdba, 'USAGE') AS of_database, rolsuper AS superuser
       FROM pg_roles, pg_database d WHERE rolname = current_user AND d.datname = current_database()
)
SELECT n.nspname::text AS schema, c.relname::text AS name, c.oid::bigint AS oid, c.relkind::text AS kind,
       c.relpages AS pages, c.relallvisible AS visible, c.reltuples::float8 AS rows,
       CASE WHEN c.relkind = 'p' THEN 0 WHEN s.oid IS NULL THEN pg_relation_size(c.oid)
            ELSE c.relpages::bigint * {block} END AS bytes,
       CASE WHEN c.relkind = 'p' THEN 0 WHEN s.oid IS NULL THEN pg_total_relation_size(c.oid)
            ELSE c.relpages::bigint * {block} END AS total,
       CASE WHEN c.relkind = 'p' OR NOT c.relhasindex OR s.oid IS NOT NULL THEN 0
            ELSE pg_indexes_size(c.oid) END AS index_bytes,
       pg_stat_get_live_tuples(c.oid) AS live, pg_stat_get_dead_tuples(c.oid) AS dead,
       pg_stat_get_mod_since_analyze(c.oid) AS changed, pg_stat_get_ins_since_vacuum(c.oid) AS inserted,
       pg_stat_get_tuples_inserted(c.oid) - pg_stat_get_tuples_deleted(c.oid) AS counted,
       pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid)
         AS written,
       coalesce(i.scans, 0) AS index_scans,
       pg_stat_get_numscans(c.oid) + coalesce(i.scans, 0) AS scans,
       extract(epoch FROM clock_timestamp() - greatest(pg_stat_get_last_vacuum_time(c.oid),
         pg_stat_get_last_autovacuum_time(c.oid)))::float8 AS vacuumed,
       extract(epoch FROM clock_timestamp() - greatest(pg_stat_get_last_analyze_time(c.oid),
         pg_stat_get_last_autoanalyze_time(c.oid)))::float8 AS analyzed,
       CASE WHEN c.relkind <> 'p' THEN age(c.relfrozenxid) ELSE 0 END AS xid_age,
       CASE WHEN c.relkind <> 'p' THEN mxid_age(c.relminmxid) ELSE 0 END AS mxid_age,
       coalesce(c.reloptions, '{{}}') AS options,
       CASE WHEN t.oid IS NOT NULL THEN json_build_array(pg_stat_get_dead_tuples(t.oid),
         pg_stat_get_live_tuples(t.oid), t.relpages::bigint * {block}, age(t.relfrozenxid), mxid_age(t.relminmxid))
       END AS toast,
       CASE WHEN c.relispartition THEN coalesce(pg_partition_root(c.oid)::oid::bigint, 0) ELSE 0 END AS root,
       owner.superuser OR pg_has_role(c.relowner, 'USAGE') OR (owner.of_database AND NOT c.relisshared)
         OR {maintain:raw} AS permitted,
       pg_get_userbyid(c.relowner)::text AS owner,
       n.nspname IN ('pg_catalog', 'information_schema') AS system,
       CASE WHEN w.wraparound THEN 'wraparound' WHEN w.oid IS NOT NULL THEN 'running' ELSE '' END AS autovacuum
  FROM owner, pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
  LEFT JOIN shut s ON s.oid = c.oid
  LEFT JOIN working w ON w.oid = c.oid
  LEFT JOIN indexed i ON i.oid = c.oid
 WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND (c.relkind <> 'm' OR c.relispopulated)
   AND ({everything} OR c.oid = ANY ({oids}))
 ORDER BY n.nspname, c.relname
"""

# Statistics of a column by the name they are kept under: an expression's under its index.
_INDEXES = """
WITH building AS MATERIALIZED (SELECT DISTINCT relid FROM pg_stat_progress_create_index)
SELECT n.nspname::text AS schema, c.relname::text AS name, c.oid::bigint AS oid, x.indrelid::bigint AS tab,
       c.relpages::bigint * {block} AS bytes, c.reltuples::float8 AS rows, coalesce(c.reloptions, '{{}}') AS options,
       NOT x.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$' AS leftover,
       x.indisvalid AND NOT x.indisexclusion AND n.nspname NOT IN ('pg_catalog', 'pg_toast')
         AND t.relpersistence <> 't' AS concurrent,
       EXISTS (SELECT FROM building b WHERE b.relid = x.indrelid) AS building,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR pg_has_role(c.relowner, 'USAGE')
         OR {maintain:raw} AS permitted,
       CASE WHEN am.amname = 'btree' AND c.relpages::bigint * {block} >= {smallest} THEN
         (SELECT json_agg(json_build_array(s.avg_width, s.null_frac))
            FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
            LEFT JOIN pg_attribute a ON a.attrelid = CASE WHEN k.attnum = 0 THEN x.indexrelid ELSE x.indrelid END
                 AND a.attnum = CASE WHEN k.attnum = 0 THEN k.place ELSE k.attnum END
            LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.attname = a.attname AND NOT s.inherited
                 AND s.tablename = CASE WHEN k.attnum = 0 THEN c.relname ELSE t.relname END)
       END AS widths
  FROM pg_index x
  JOIN pg_class c ON c.oid = x.indexrelid
  JOIN pg_class t ON t.oid = x.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_am am ON am.oid = c.relam
 WHERE c.relkind = 'i' AND t.relpersistence <> 't'
   AND (c.relpages::bigint * {block} >= {smallest} OR (NOT x.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'))
 ORDER BY n.nspname, c.relname
"""

_WIDTHS = """
SELECT c.oid::bigint AS oid, json_agg(json_build_array(s.avg_width, s.null_frac)) AS widths
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
       AND NOT s.inherited
 WHERE c.oid = ANY ({oids})
 GROUP BY c.oid
"""

# Temporary tables of sessions that live: nobody else can vacuum them, and they age too.
_TEMPORARY = """
SELECT max(age(relfrozenxid))::bigint AS age FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'
"""


def settings_of(session: Session) -> Settings:
    """autovacuum's thresholds. Raises OpsError statistics_off: without counters there is nothing to decide on."""
    names = [*_SETTINGS, "track_counts"]
    rows = session.rows(render("SELECT name, setting FROM pg_settings WHERE name = ANY ({names})", names=names))
    found = {str(row["name"]): str(row["setting"]) for row in rows}
    if found.get("track_counts") == "off":
        raise OpsError(
            "statistics_off",
            "The server counts nothing (track_counts is off), so neither autovacuum nor maintenance can decide.",
            "Set track_counts = on, and ANALYZE the database once.",
        )
    standard = Settings()
    values = {
        field: type(getattr(standard, field))(float(found[name])) for name, field in _SETTINGS.items() if name in found
    }
    return Settings(**values)


def _maintain(session: Session, relation: str) -> str:
    """Whether the right MAINTAIN, which is there from 17 on, is ours; SQL."""
    return f"has_table_privilege({relation}, 'MAINTAIN')" if session.version >= 170000 else "false"


def _options(row: Row) -> dict[str, str]:
    pairs = (str(item).partition("=") for item in cast("list[object]", row["options"]))
    return {name: value for name, _equals, value in pairs}


def _ago(value: object) -> float | None:
    return None if value is None else max(0.0, float(str(value)))


def _int(row: Row, name: str) -> int:
    return int(float(str(row[name])))


def _toast(value: object) -> Toast | None:
    if value is None:
        return None
    dead, live, size, xid, mxid = (int(str(item)) for item in cast("list[object]", value))
    return Toast(dead, live, size, xid, mxid)


def _table(database: str, row: Row) -> Table:
    return Table(
        database=database,
        schema=str(row["schema"]),
        name=str(row["name"]),
        oid=_int(row, "oid"),
        kind=str(row["kind"]),
        pages=_int(row, "pages"),
        visible=_int(row, "visible"),
        rows=float(str(row["rows"])),
        bytes=_int(row, "bytes"),
        total_bytes=_int(row, "total"),
        live=_int(row, "live"),
        dead=_int(row, "dead"),
        changed=_int(row, "changed"),
        inserted=_int(row, "inserted"),
        counted=_int(row, "counted"),
        written=_int(row, "written"),
        index_scans=_int(row, "index_scans"),
        scans=_int(row, "scans"),
        vacuumed=_ago(row["vacuumed"]),
        analyzed=_ago(row["analyzed"]),
        xid_age=_int(row, "xid_age"),
        mxid_age=_int(row, "mxid_age"),
        options=_options(row),
        toast=_toast(row["toast"]),
        root=_int(row, "root"),
        permitted=bool(row["permitted"]),
        owner=str(row["owner"]),
        system=bool(row["system"]),
        autovacuum=str(row["autovacuum"]),
        index_bytes=_int(row, "index_bytes"),
    )


def tables_of(session: Session, database: str, mark: str = "", oids: Sequence[int] = ()) -> list[Table]:
    """All tables, partitioned parents and materialized views of the session's database, or those of these oids.

    mark: application_name of our own sessions; what a dead run of ours still vacuums is nobody else's work.
    """
    # every column counts for nothing once a table is dropped in between; then its functions give NULL
    sql = render(
        _TABLES,
        block=BLOCK,
        maintain=_maintain(session, "c.oid"),
        mark=mark,
        everything=not oids,
        oids=list(oids) or [0],
    )
    return [_table(database, row) for row in session.rows(sql) if row["bytes"] is not None]


def _columns(value: object) -> list[Column]:
    """Empty when a column has no statistics, or none that we may see."""
    pairs = cast("list[list[object]]", value or [])
    if any(width is None for width, _nulls in pairs):
        return []
    return [Column(float(str(width)), float(str(nulls))) for width, nulls in pairs]


def indexes_of(session: Session, database: str, smallest: int) -> list[Index]:
    """Indexes of at least `smallest` bytes with their estimated air, and whatever broken rebuilds left."""
    sql = render(_INDEXES, block=BLOCK, smallest=smallest, maintain=_maintain(session, "t.oid"))
    found = []
    for row in session.rows(sql):
        size, options = _int(row, "bytes"), _options(row)
        fill = int(options.get("fillfactor", "90"))
        found.append(
            Index(
                database=database,
                schema=str(row["schema"]),
                name=str(row["name"]),
                oid=_int(row, "oid"),
                table=_int(row, "tab"),
                bytes=size,
                bloat=index_air(float(str(row["rows"])), _columns(row["widths"]), size, fill),
                concurrent=bool(row["concurrent"]),
                leftover=bool(row["leftover"]),
                building=bool(row["building"]),
                permitted=bool(row["permitted"]),
            )
        )
    return found


def airs_of(session: Session, tables: Sequence[Table]) -> Mapping[int, float]:
    """Estimated air of tables by oid; those without statistics are missing."""
    if not tables:
        return {}
    widths = {
        _int(row, "oid"): _columns(row["widths"])
        for row in session.rows(render(_WIDTHS, oids=[table.oid for table in tables]))
    }
    found = {}
    for table in tables:
        fill = int(table.options.get("fillfactor", "100"))
        air = table_air(max(table.rows, float(table.live)), widths.get(table.oid, []), table.bytes, fill)
        if air is not None:
            found[table.oid] = air
    return found


def temporary_age(session: Session) -> int:
    """Transactions of age of the oldest temporary table of any session; 0 without one."""
    return int(str(session.value(_TEMPORARY) or 0))
