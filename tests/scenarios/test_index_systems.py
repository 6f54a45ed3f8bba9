# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The indexes that the inventories of real systems ask for are built on tables such as theirs."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import yaml

from ansible_collections.saasops.runbook.tests.lab.acts import make_indexes
from ansible_collections.saasops.runbook.tests.lab.docker import PostgresContainer
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

ROOT = Path(__file__).resolve().parents[2]
DEFINITIONS = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"


def asked_for(system: str) -> list[dict[str, object]]:
    text = (ROOT / "inventories" / system / "group_vars" / "all" / "indexes.yml").read_text(encoding="utf-8")
    return cast("list[dict[str, object]]", yaml.safe_load(text)["saasops_indexes"])


def test_newsletters_indexes_are_built_in_its_container_and_the_planner_takes_them(
    docker_postgres: PostgresContainer, tmp_path: Path
) -> None:
    docker_postgres.psql("CREATE DATABASE newsletter")
    try:
        docker_postgres.psql(
            "CREATE TABLE campaigns (id int PRIMARY KEY, tenant_id int, created_at timestamptz);"
            "CREATE TABLE email_events (id int, campaign_id int, event_type text);"
            "INSERT INTO campaigns SELECT i, i % 500, now() FROM generate_series(1, 5000) i;"
            "INSERT INTO email_events SELECT i, i % 900, 'open' FROM generate_series(1, 9000) i; ANALYZE",
            "newsletter",
        )
        hosts = inventory(
            tmp_path,
            {
                "saasops_system": "newsletter",
                "saasops_database": "newsletter",
                "saasops_connection": docker_postgres.params(),
                "saasops_store": {"path": str(tmp_path / "store"), "create": True},
                "saasops_indexes": asked_for("newsletter"),
            },
        )

        def run(*arguments: str) -> Run:
            done = play("index", hosts, *arguments, timeout=180)
            assert done.code == 0, done.output
            return done

        assert "create public.idx_campaigns_tenant_created" in run("--check", "--diff").output
        assert "2 indexes built, valid and ready" in run().output
        assert docker_postgres.psql(DEFINITIONS, "newsletter").splitlines()[1:] == [
            "CREATE INDEX idx_campaigns_tenant_created ON public.campaigns USING btree (tenant_id, created_at)",
            "CREATE INDEX idx_email_events_campaign_type ON public.email_events USING btree (campaign_id, event_type)",
        ]
        plan = docker_postgres.psql(
            "EXPLAIN SELECT FROM email_events WHERE campaign_id = 7 AND event_type = 'open'", "newsletter"
        )
        assert "idx_email_events_campaign_type" in plan
        assert run().changed == 0
        run("-e", "name=idx_campaigns_tenant_created", "-e", "state=absent")
        assert "idx_campaigns" not in docker_postgres.psql(DEFINITIONS, "newsletter")
    finally:
        docker_postgres.psql("DROP DATABASE newsletter WITH (FORCE)")


@pytest.mark.parametrize("server", [15], indirect=True)
def test_podcast_analytics_index_is_built_and_the_planner_takes_it(server: Server, database: str) -> None:
    server.psql(
        "CREATE TABLE campaigns (id int PRIMARY KEY, tenant_id int);"
        "INSERT INTO campaigns SELECT i, i % 500 FROM generate_series(1, 5000) i; ANALYZE",
        database,
    )
    wanted = asked_for("podcast_analytics")
    assert make_indexes(server, database, wanted).changed
    plan = server.psql("EXPLAIN SELECT FROM campaigns WHERE tenant_id = 7", database)
    assert "idx_campaigns_tenant_id" in plan
    assert not make_indexes(server, database, wanted).changed
