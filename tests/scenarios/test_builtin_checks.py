# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb health measures the built-in checks, by a role that only monitors, and through a container."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_checks import PG_CHECKS
from ansible_collections.saasops.runbook.plugins.module_utils.execute import health_check
from ansible_collections.saasops.runbook.tests.lab import acts, docker, postgres
from ansible_collections.saasops.runbook.tests.lab.playbooks import commands, inventory, paste, play


def test_health_names_what_is_wrong_and_what_the_inventory_expected(server15: postgres.Server, tmp_path: Path) -> None:
    server15.psql("CREATE ROLE looker LOGIN PASSWORD 'looks at everything' IN ROLE pg_monitor, pg_read_all_data")
    server15.createdb("looked_at")
    try:
        server15.psql("CREATE TABLE t (a int PRIMARY KEY); CREATE INDEX again ON t (a); ANALYZE", "looked_at")
        variables = {
            "saasops_database": "looked_at",
            "saasops_connection": acts.connection(server15, user="looker", password="looks at everything"),
            "saasops_replicas": ["standby1"],
            "saasops_expect": {"timeouts": [{"role": "looker", "at_most": "30s"}]},
            "saasops_health_fail_on": "never",
        }
        hosts = inventory(tmp_path, variables)
        run = play("health", hosts)
        assert run.code == 0, run.output
        assert run.changed == 0
        assert "saasops.runbook.index" in run.output
        assert "name=public.again" in run.output
        assert "ALTER ROLE looker SET statement_timeout" in run.output, run.output
        assert "0 connected; 1 expected" in run.output
    finally:
        server15.dropdb("looked_at")
        server15.psql("DROP ROLE looker")


# the lowest that the server takes, so that it is nearly reached in a second: from 100 % on it vacuums by itself
AGES = {"autovacuum": "off", "autovacuum_freeze_max_age": "100000"}
BURN = "DO $$ BEGIN FOR i IN 1..90000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
FROZEN = "SELECT age(datfrozenxid) < 1000 FROM pg_database WHERE datname = 'shop'"
CLOSED = [{"name": "years ago", "start": "2020-01-01T02:00", "duration": "1h"}]


def test_the_command_that_health_tells_for_old_transaction_ids_freezes_them(tmp_path: Path) -> None:
    with postgres.running(17, settings=AGES) as server:
        server.createdb("shop")
        server.psql("CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id", "shop")
        server.psql(BURN)
        for name in ("postgres", "template1"):
            server.psql("VACUUM (FREEZE)", name)
        variables = {
            "saasops_database": "shop",
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(tmp_path / "store"), "create": True},
            "saasops_windows": CLOSED,
            "saasops_checks": [{"name": "freeze_age", "builtin": True, "warning": "> 80 %"}],
            "saasops_health_fail_on": "never",
        }
        hosts = inventory(tmp_path, variables)
        found = play("health", hosts, "-e", "only=freeze_age")
        (line,) = commands(found)
        assert "add -e break_glass='<why>'" in found.output
        refused = paste(line, hosts)
        assert "[window_closed]" in refused.output, refused.output
        assert server.psql(FROZEN) == "f"
        run = paste(line, hosts, "-e", "break_glass='transaction ids run out'")
        assert (run.code, run.changed) == (0, 1), run.output
        assert server.psql(FROZEN) == "t"


def test_the_built_in_checks_are_measured_through_a_container(docker_postgres: docker.PostgresContainer) -> None:
    params: dict[str, object] = {
        "system": "lab",
        "database": "postgres",
        "connection": docker_postgres.params(),
        "checks": [],
        "builtin": True,
        "deadline": 60,
    }
    found = cast("list[dict[str, object]]", health_check.execute(params, acts.context()).evidence["checks"])
    assert [item["name"] for item in found if item["source"] == "builtin"]
    assert {str(item["name"]) for item in found} == {item.check.name for item in PG_CHECKS}
    blind = {str(item["name"]) for item in found if item["level"] == "inconclusive"}
    # its image makes a cluster without checksums
    assert blind == {"recovery_point", "slow_statements", "unused_indexes", "checksum_failures"}
