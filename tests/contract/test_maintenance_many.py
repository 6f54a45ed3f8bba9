# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Five hundred tenants with four tables each, in one call over several connections."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.execute import maintenance_run
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.upkeep import done, maintain, planned

JOBS = 4
DEAD = [f"org_{number}.orders" for number in range(25, 501, 25)]
CHANGED = [f"org_{number}.events" for number in range(100, 501, 100)]
# few rows that were inserted only are below every threshold; without long values a table is made in a moment
TENANTS = """
DO $$ DECLARE t int; k text; BEGIN
  FOR t IN 1..500 LOOP
    EXECUTE format('CREATE SCHEMA org_%s', t);
    FOREACH k IN ARRAY ARRAY['orders', 'events', 'campaigns', 'approvals'] LOOP
      EXECUTE format('CREATE TABLE org_%s.%I WITH (autovacuum_enabled = off) AS SELECT generate_series(1, 40) AS id',
                     t, k);
    END LOOP;
    COMMIT;
  END LOOP;
END $$
"""


@pytest.mark.parametrize("server", [18], indirect=True)
def test_of_two_thousand_tables_of_five_hundred_tenants_exactly_those_that_need_it_are_done(
    server: Server, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    server.psql(TENANTS, db=database)
    # 50 + 10 % of 40 rows may be dead, 50 + 5 % may have changed, 40 of them when they were inserted
    server.psql("".join(f"UPDATE {name} SET id = id; UPDATE {name} SET id = id;" for name in DEAD), db=database)
    server.psql("".join(f"UPDATE {name} SET id = id WHERE id <= 20;" for name in CHANGED), db=database)
    expected = sorted([("vacuum", name) for name in DEAD] + [("analyze", name) for name in DEAD + CHANGED])
    options = {"schemas": ["org_*"], "jobs": JOBS}

    check = maintain(server, tmp_path / "store", database, check=True, **options)
    assert check.evidence["tables"] == 2000
    assert sorted(planned(check)) == expected

    meeting, met = threading.Barrier(JOBS), set[int]()
    real = maintenance_run.run

    def together(session: Session, sql: str, seconds: float | None) -> tuple[str, list[str]]:
        """Nobody goes on before all connections are at work."""
        if session.pid not in met:
            met.add(session.pid)
            meeting.wait(60)
        return real(session, sql, seconds)

    monkeypatch.setattr(maintenance_run, "run", together)
    result = maintain(server, tmp_path / "store", database, **options)
    assert len(met) == JOBS
    assert sorted(done(result)) == expected
    assert planned(maintain(server, tmp_path / "store", database, **options)) == []
    touched = "SELECT count(*) FROM pg_stat_user_tables WHERE vacuum_count + analyze_count > 0"
    assert server.psql(touched, db=database) == str(len(DEAD) + len(CHANGED))
