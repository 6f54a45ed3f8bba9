# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Back up to a bucket, restore from it, switch: the same verbs, another store."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import s3
from ansible_collections.saasops.runbook.tests.lab.acts import connection
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

ACTIVITIES = 'SELECT count(*) FROM org_acme."Activity"'
pytestmark = pytest.mark.parametrize("server", [17], indirect=True)


def options(server: s3.Server, bucket: str) -> dict[str, object]:
    return {
        "type": "s3",
        "bucket": bucket,
        "prefix": "demo",
        "endpoint_url": server.endpoint,
        "region": "auto",
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }


def test_the_whole_road_on_a_bucket(server: Server, demo_database: str, s3_server: s3.Server, tmp_path: Path) -> None:
    bucket = s3_server.create_bucket()
    variables = {
        "saasops_system": "test",
        "saasops_database": demo_database,
        "saasops_connection": connection(server),
        "saasops_store": options(s3_server, bucket),
    }
    hosts = inventory(tmp_path, variables)

    def run(verb: str, *arguments: str) -> Run:
        done = play(verb, hosts, *arguments, timeout=180)
        assert done.code == 0, done.output
        assert s3_server.secret_key not in done.output
        return done

    before = server.psql(ACTIVITIES, demo_database)
    run("backup")
    server.psql('DELETE FROM org_acme."Activity"', demo_database)
    run("restore", "-e", "switch=true")
    assert server.psql(ACTIVITIES, demo_database) == before
    run("restore_drill")
    listed = run("backups", "-e", "saasops_rpo=1h", "-e", '{"saasops_retention": {"daily": 7}}')
    assert "restored" in listed.output
    server.psql(f'DROP DATABASE "{_aside(server, demo_database)}"', "postgres")


def _aside(server: Server, database: str) -> str:
    """The closed database of before the switch, opened to be dropped."""
    name = server.psql(f"SELECT datname FROM pg_database WHERE datname LIKE '{database}_before_%'", "postgres").strip()
    server.psql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true', "postgres")
    return name


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"bucket": "no-such-bucket"}, "bucket_missing"),
        ({"endpoint_url": "http://127.0.0.1:1"}, "store_unreachable"),
        ({"secret_key": "wrong"}, "store_denied"),
    ],
    ids=["bucket", "endpoint", "key"],
)
def test_a_store_that_cannot_serve_is_refused_before_anything_is_dumped(
    server: Server, database: str, s3_server: s3.Server, tmp_path: Path, change: dict[str, object], code: str
) -> None:
    store = {**options(s3_server, s3_server.create_bucket()), "connect_timeout": 2, "retries": 1, **change}
    variables = {
        "saasops_system": "test",
        "saasops_database": database,
        "saasops_connection": connection(server),
        "saasops_store": store,
    }
    done = play("backup", inventory(tmp_path, variables))
    assert done.code != 0
    assert f"[{code}]" in done.output
    assert s3_server.secret_key not in done.output
