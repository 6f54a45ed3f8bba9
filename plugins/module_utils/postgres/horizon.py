# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what holds the removable horizon back (the roles of ComputeXidHorizons in PostgreSQL's procarray.c)."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.horizon import (
    PREPARED,
    SESSION,
    SLOT,
    STANDBY,
    Holder,
    Horizon,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

# A session holds its own database back, a standby's feedback (a walsender) all of them, and a VACUUM that runs none.
# A standby with a slot shows its feedback there.
_HOLDERS = """
SELECT CASE WHEN a.backend_type = 'walsender' THEN {standby} ELSE {session} END AS kind,
       CASE WHEN a.backend_type = 'walsender' THEN coalesce(nullif(a.application_name, ''), a.pid::text)
            ELSE a.pid::text END AS name,
       greatest(age(a.backend_xmin), age(a.backend_xid))::bigint AS age,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds,
       CASE WHEN a.backend_type = 'walsender' THEN '' ELSE coalesce(a.datname, '') END AS database,
       false AS catalogs,
       concat_ws(', ', nullif(a.usename, ''), nullif(a.application_name, ''), a.state) AS detail,
       CASE WHEN coalesce(age(a.backend_xid), -1) > coalesce(age(a.backend_xmin), -1) THEN a.backend_xid
            ELSE a.backend_xmin END::text AS xid
  FROM pg_stat_activity a
 WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) AND a.pid <> pg_backend_pid()
   AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
UNION ALL
SELECT {prepared}, gid, age(transaction)::bigint, extract(epoch FROM clock_timestamp() - prepared)::float8,
       database::text, false, 'of ' || owner, transaction::text
  FROM pg_prepared_xacts
UNION ALL
SELECT {slot}, slot_name::text, age(xmin)::bigint, NULL, '', false,
       slot_type || CASE WHEN active THEN ', active' ELSE ', inactive' END, xmin::text
  FROM pg_replication_slots WHERE xmin IS NOT NULL
UNION ALL
SELECT {slot}, slot_name::text, age(catalog_xmin)::bigint, NULL, '', true,
       slot_type || CASE WHEN active THEN ', active' ELSE ', inactive' END, catalog_xmin::text
  FROM pg_replication_slots WHERE catalog_xmin IS NOT NULL
"""


def horizon(session: Session) -> Horizon:
    """Who holds dead rows back, on the whole server, this session and running VACUUMs left out.

    Without pg_read_all_stats the sessions of other roles do not show what they hold: then it is not complete.
    """
    kinds = {"session": SESSION, "standby": STANDBY, "prepared": PREPARED, "slot": SLOT}
    holders = tuple(
        Holder(
            kind=str(row["kind"]),
            name=str(row["name"]),
            age=int(str(row["age"])),
            seconds=None if row["seconds"] is None else max(0.0, float(str(row["seconds"]))),
            database=str(row["database"]),
            catalogs=bool(row["catalogs"]),
            detail=str(row["detail"]),
            xid=str(row["xid"]),
        )
        for row in session.rows(render(_HOLDERS, **kinds))
    )
    complete = session.value("SELECT pg_has_role('pg_read_all_stats', 'USAGE')")
    return Horizon(holders, bool(complete))
