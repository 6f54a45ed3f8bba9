# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb discover on a real server and a real Docker engine: what it finds is there, and its draft can be used."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.saasops.runbook.tests.lab import demo, docker, postgres
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play

ODD = 'two\nlines "ä" {{ 1 }}'


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running(18, settings={"autovacuum": "off"}) as found:
        demo.create(found, "podcasts", parameters=demo.Parameters(1))
        found.createdb(ODD)
        found.createdb("empty")
        yield found


def connection(server: postgres.Server, **more: object) -> dict[str, object]:
    where = {"host": server.host, "port": server.port, "user": server.user, "password": server.password}
    return {**where, "client_bin": str(server.bin), **more}


def discover(server: postgres.Server, folder: Path, *arguments: str, **more: object) -> Run:
    return play("discover", inventory(folder, {"saasops_connection": connection(server, **more)}), *arguments)


def test_the_draft_names_every_database_with_what_is_known_and_no_password(
    server: postgres.Server, tmp_path: Path
) -> None:
    number = "SELECT pg_snapshot_xmax(pg_current_snapshot())"
    before = server.psql(number)
    target = tmp_path / "drafted.yml"
    done = discover(server, tmp_path, "-e", f"write={target}")
    assert done.code == 0, done.output
    assert server.psql(number) == before, "no transaction wrote anything"
    assert server.password not in done.output

    text = target.read_text(encoding="utf-8")
    assert server.password not in text
    hosts = yaml.safe_load(text.replace("!unsafe ", ""))["all"]["hosts"]
    assert {name: host["saasops_database"] for name, host in hosts.items()} == {
        "podcasts": "podcasts",
        "empty": "empty",
        "two_lines_1": ODD,
    }
    where = {"host": server.host, "port": server.port, "user": server.user, "client_bin": str(server.bin)}
    assert hosts["podcasts"]["saasops_connection"] == where
    assert hosts["podcasts"]["ansible_connection"] == "local"
    # a password that is added later asks for it
    assert hosts["podcasts"]["ansible_pipelining"] is True
    assert 'saasops_tenants_as_sets: ["org_*"]' in text


def test_it_shows_sizes_tenants_extensions_and_what_needs_attention(server: postgres.Server, tmp_path: Path) -> None:
    done = discover(server, tmp_path, "-e", "database=podcasts")
    assert done.code == 0, done.output
    assert "PostgreSQL 18." in done.output
    assert "citext" in done.output
    assert "11 schemas org_* hold the same" in done.output
    assert "org_acme match too" in done.output
    assert "Nothing in podcasts needs attention." in done.output
    assert "empty" not in done.output


def test_the_draft_with_a_store_backs_up(server: postgres.Server, tmp_path: Path) -> None:
    target = tmp_path / "drafted.yml"
    assert discover(server, tmp_path, "-e", f"write={target}").code == 0
    drafted = target.read_text(encoding="utf-8")
    store = tmp_path / "store"
    filled = drafted.replace(
        "# saasops_store: { path: /var/backups/podcasts }", f"saasops_store: {{ path: {store}, create: true }}"
    )
    target.write_text(filled, encoding="utf-8")
    given = ["-e", f"ansible_python_interpreter={sys.executable}", "--limit", "podcasts"]
    password = json.dumps({"saasops_connection": connection(server)})
    done = play("backup", target, *given, "-e", password)
    assert done.code == 0, done.output
    assert len(list(store.glob("backups/*/manifest.json"))) == 1


def test_a_file_that_is_there_is_never_overwritten(server: postgres.Server, tmp_path: Path) -> None:
    target = tmp_path / "mine.yml"
    target.write_text("mine\n", encoding="utf-8")
    done = discover(server, tmp_path, "-e", f"write={target}")
    assert done.code != 0
    assert "[draft_exists]" in done.output
    assert target.read_text(encoding="utf-8") == "mine\n"


def test_check_mode_shows_the_draft_and_writes_no_file(server: postgres.Server, tmp_path: Path) -> None:
    target = tmp_path / "drafted.yml"
    done = discover(server, tmp_path, "--check", "-e", f"write={target}")
    assert done.code == 0, done.output
    assert "saasops_database: podcasts" in done.output
    assert not target.exists()


def test_a_role_that_may_read_little_is_told_what_it_lacks(server: postgres.Server, tmp_path: Path) -> None:
    done = discover(server, tmp_path, "-e", "database=podcasts", user="demo_app", password="demo")
    assert done.code == 0, done.output
    for code in ("unreadable_tables", "row_security_active", "not_superuser", "settings_unreadable"):
        assert f"[{code}]" in done.output


def test_a_wrong_password_is_refused_by_its_code(server: postgres.Server, tmp_path: Path) -> None:
    done = discover(server, tmp_path, password="not this one")
    assert done.code != 0
    assert "[wrong_password]" in done.output


def test_a_docker_host_tells_its_containers_and_the_draft_reaches_one(
    docker_postgres: docker.PostgresContainer, tmp_path: Path
) -> None:
    target = tmp_path / "drafted.yml"
    done = play("discover", inventory(tmp_path, {}), "-e", "docker=true", "-e", f"write={target}")
    assert done.code == 0, done.output
    text = target.read_text(encoding="utf-8")
    assert docker_postgres.password not in done.output + text
    hosts = yaml.safe_load(text)["all"]["hosts"]
    drafted = [host for host in hosts.values() if host["saasops_connection"]["container"] == docker_postgres.name]
    assert len(drafted) == 1

    inside = {**drafted[0]["saasops_connection"], **docker_postgres.params()}
    seen = play("discover", inventory(tmp_path, {"saasops_connection": inside}))
    assert seen.code == 0, seen.output
    assert "PostgreSQL 15." in seen.output


def test_a_host_without_a_docker_engine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    done = play("discover", inventory(tmp_path, {}), "-e", "docker=true")
    assert done.code != 0
    assert "[docker_unreachable]" in done.output or "[tool_missing]" in done.output
