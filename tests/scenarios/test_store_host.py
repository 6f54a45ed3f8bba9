# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Back up to a folder of another host of the inventory, restore from it, switch: the same verbs, another store."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import sshd
from ansible_collections.saasops.runbook.tests.lab.acts import connection
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

ACTIVITIES = 'SELECT count(*) FROM org_acme."Activity"'
ONLY = ("-e", "saasops_hosts=db1")
pytestmark = pytest.mark.parametrize("server", [17], indirect=True)


def written(folder: Path, server: Server, database: str, host: sshd.Server, store: dict[str, object]) -> Path:
    """An inventory of the database's host db1 and the store's host backup1, which is a name and no address."""
    return inventory(
        folder,
        {
            "saasops_system": "test",
            "saasops_database": database,
            "saasops_connection": connection(server),
            "saasops_store": store,
        },
        {
            "db1": {},
            "backup1": {
                "ansible_host": sshd.HOST,
                "ansible_port": host.port,
                "ansible_user": "{{ keeper }}",
                "keeper": host.user.pw_name,
            },
        },
    )


def named(server: sshd.Server, path: Path | str, **changes: object) -> dict[str, object]:
    return {
        "host": "backup1",
        "path": str(path),
        "identity_file": str(server.identity),
        "known_hosts": str(server.known_hosts),
        **changes,
    }


def test_the_whole_road_on_another_host(
    server: Server, demo_database: str, ssh_server: sshd.Server, tmp_path: Path
) -> None:
    root = ssh_server.store_folder()
    hosts = written(tmp_path, server, demo_database, ssh_server, named(ssh_server, root))

    def run(verb: str, *arguments: str) -> Run:
        done = play(verb, hosts, *ONLY, *arguments, timeout=180)
        assert done.code == 0, done.output
        return done

    before = server.psql(ACTIVITIES, demo_database)
    assert run("backup", "--check").changed == 1
    assert list(root.iterdir()) == []
    assert run("backup", "-e", "key=once").changed == 1
    assert run("backup", "-e", "key=once").changed == 0
    manifests = list(root.glob("backups/*/manifest.json"))
    assert [manifest.owner() for manifest in manifests] == [ssh_server.user.pw_name]
    server.psql('DELETE FROM org_acme."Activity"', demo_database)
    run("restore", "-e", "switch=true")
    assert server.psql(ACTIVITIES, demo_database) == before
    listed = run("backups", "-e", "saasops_rpo=1h", "-e", '{"saasops_retention": {"daily": 7}}')
    assert "restored" in listed.output or "verified" in listed.output
    run("undo")
    assert server.psql(ACTIVITIES, demo_database).strip() == "0"
    assert list(root.glob(".tmp/*")) == []


def test_the_inventory_host_itself_needs_no_ssh(
    server: Server, database: str, ssh_server: sshd.Server, tmp_path: Path
) -> None:
    (root := tmp_path / "store").mkdir()
    store = named(ssh_server, root, host="db1", port=1, user="nobody")
    done = play("backup", written(tmp_path, server, database, ssh_server, store), *ONLY)
    assert done.code == 0, done.output
    assert list(root.glob("backups/*/manifest.json"))


@pytest.mark.parametrize(
    "code", ["host_unreachable", "host_key_unknown", "login_refused", "store_missing", "store_not_writable"]
)
def test_a_store_that_cannot_serve_is_refused_before_anything_is_dumped(
    server: Server, database: str, ssh_server: sshd.Server, tmp_path: Path, code: str
) -> None:
    root = ssh_server.store_folder()
    (empty := tmp_path / "empty").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        store = {
            "host_unreachable": named(ssh_server, root, port=taken.getsockname()[1]),
            "host_key_unknown": named(ssh_server, root, known_hosts=str(empty)),
            "login_refused": named(ssh_server, root, identity_file=str(ssh_server.stranger)),
            "store_missing": named(ssh_server, root / "not-mounted"),
            "store_not_writable": named(ssh_server, "/usr"),
        }[code]
        done = play("backup", written(tmp_path, server, database, ssh_server, store), *ONLY)
    assert done.code != 0
    assert f"[{code}]" in done.output
    assert list(root.iterdir()) == []
