# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pg_repack that was ended leaves on a table: a trigger that logs every write, its log, a copy, a type.

pg_repack holds an advisory lock for as long as it works on a table, of its own number and the table's oid less 2^31.
Whoever has that lock knows that no pg_repack works there, and that none can begin. What is left is removed by
pg_repack's own function, which takes ACCESS EXCLUSIVE on the table for a moment.
"""

from __future__ import annotations

import contextlib
import time

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

CLEAN, DROPPED, AT_WORK, HELD = "clean", "dropped", "at work", "held"
# its backends carry the mark of the run with this behind it
SUFFIX = "-repack"
# how many things repack_drop is to look for: log, type, trigger and copy
EVERYTHING = 4
# the longest that others queue behind one try, in seconds
TRY = 1.0
_LOCK = 16185446
_LOCK_TIMEOUT = "55P03"
_LEFT = """
SELECT c.oid::bigint AS oid, EXISTS (
       SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND l.classid::bigint = {lock} AND l.objid::bigint = (c.oid::bigint + 2147483648) % 4294967296) AS busy
  FROM pg_class c
 WHERE c.relkind = 'r' AND ({table} = 0 OR c.oid::bigint = {table}) AND c.oid::bigint IN (
       SELECT substring(r.relname FROM '^(?:log|table)_([0-9]{{1,10}})$')::bigint FROM pg_class r
        WHERE r.relnamespace = to_regnamespace('repack') AND r.relkind = 'r'
       UNION
       SELECT substring(t.typname FROM '^pk_([0-9]{{1,10}})$')::bigint FROM pg_type t
        WHERE t.typnamespace = to_regnamespace('repack')
       UNION
       SELECT g.tgrelid::bigint FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
        WHERE g.tgname = 'repack_trigger' AND p.pronamespace = to_regnamespace('repack'))
"""


def leftovers(session: Session) -> list[int]:
    """Oids of the tables of this database on which something was left and no pg_repack works."""
    return [int(str(row["oid"])) for row in session.rows(_left(0)) if not row["busy"]]


def _left(table: int) -> str:
    return render(_LEFT, lock=_LOCK, table=table)


def sweep(session: Session, table: int, seconds: float, lock_timeout: float) -> str:
    """Remove what was left on a table, for so many seconds at most; the session gets this lock_timeout back.

    CLEAN: nothing was left. DROPPED. AT_WORK: a pg_repack works there. HELD: somebody held the table all the time.
    """
    if not session.rows(_left(table)):
        return CLEAN
    key = render("{lock}, CAST(-2147483648 + {table}::bigint AS integer)", lock=_LOCK, table=table)
    if not session.value(f"SELECT pg_try_advisory_lock({key})"):
        return AT_WORK
    deadline = time.monotonic() + seconds
    try:
        session.run("SET statement_timeout = '30s'")
        session.run(f"SET lock_timeout = {int(TRY * 1000)}")
        while True:
            try:
                session.run(render("SELECT repack.repack_drop({table}, {all})", table=table, all=EVERYTHING))
                return DROPPED
            except OpsError as error:
                if error.details.get("sqlstate") != _LOCK_TIMEOUT:
                    raise
            if time.monotonic() >= deadline:
                return HELD
            time.sleep(TRY / 2)
    finally:
        with contextlib.suppress(OpsError):
            session.run(f"SET lock_timeout = {int(lock_timeout * 1000)}")
            session.run("SET statement_timeout = 0")
            session.value(f"SELECT pg_advisory_unlock({key})")


def end_backends(session: Session, mark: str, seconds: float) -> None:
    """End pg_repack's own backends in this database, when the program is gone, and wait for their end."""
    deadline = time.monotonic() + seconds
    sql = render(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name = {mark} AND datname = current_database() AND pid <> pg_backend_pid()",
        mark=mark,
    )
    while session.value(sql) and time.monotonic() < deadline:
        time.sleep(0.1)
