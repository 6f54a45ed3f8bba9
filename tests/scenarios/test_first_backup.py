# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first proven backup of one's own database: the example inventory, three commands, nothing else."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import postgres, processes
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, play

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "first_backup.yml"
MOST_LINES = 10


@dataclass(frozen=True)
class Shop:
    """A server like a packaged one: peer authentication on its socket, client programs on the search path."""

    server: postgres.Server
    folder: Path
    user: pwd.struct_passwd

    @property
    def store(self) -> Path:
        return self.server.folder / "store"

    def verb(self, name: str, *arguments: str) -> Run:
        """Run a verb with the example's inventory, its values replaced by this lab's, its lines kept."""
        text = EXAMPLE.read_text(encoding="utf-8")
        values = {
            "ansible_become_user: postgres": f"ansible_become_user: {self.user.pw_name}",
            "unix_socket: /run/postgresql": f"unix_socket: {self.server.socket_dir}, port: {self.server.port}",
            "path: /var/backups/shop": f"path: {self.store}",
        }
        for shown, own in values.items():
            assert text.count(shown) == 1, f"the example lost the value {shown!r}"
            text = text.replace(shown, own)
        inventory = self.folder / "inventory.yml"
        inventory.write_text(text, encoding="utf-8")
        (self.folder / "ansible.cfg").write_text("[connection]\npipelining = true\n", encoding="utf-8")
        # what belongs to this machine and not to the example: no ssh, and how one becomes another user here
        method = ["-e", "ansible_become_method=su"] if os.geteuid() == 0 else ["-e", "ansible_become=false"]
        here = ["-e", "ansible_connection=local", "-e", f"ansible_python_interpreter={interpreter(self.user)}"]
        return play(name, inventory, *here, *method, *arguments)


def interpreter(user: pwd.struct_passwd) -> str:
    """A Python that this user may run: ours, or the system's when ours is shut away in root's home."""
    if os.geteuid() != 0:
        return sys.executable
    try:
        subprocess.run([sys.executable, "-c", ""], user=user.pw_uid, cwd="/", capture_output=True, check=True)
    except (PermissionError, subprocess.CalledProcessError):
        return "/usr/bin/python3"
    return sys.executable


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with postgres.running(15) as server:
        user = processes.unprivileged()
        rules = server.data / "pg_hba.conf"
        rules.write_text("local all all peer\n" + rules.read_text(encoding="utf-8"), encoding="utf-8")
        server.reload()
        if user.pw_name != "postgres":
            server.psql(f'CREATE ROLE "{user.pw_name}" SUPERUSER LOGIN')
        server.createdb("shop")
        server.psql(
            "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 500)", "shop"
        )
        found = Shop(server, tmp_path_factory.mktemp("first"), user)
        found.store.mkdir(mode=0o700)
        shutil.chown(found.store, user.pw_uid, user.pw_gid)
        yield found


def test_the_example_inventory_has_at_most_ten_lines() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    assert 0 < len(lines) <= MOST_LINES


@pytest.mark.parametrize("document", ["README.md", "docs/getting_started.md"])
def test_the_documents_show_the_example_as_it_is(document: str) -> None:
    assert f"```yaml\n{EXAMPLE.read_text(encoding='utf-8')}```" in (ROOT / document).read_text(encoding="utf-8")


@pytest.mark.essential
def test_the_example_inventory_gives_a_first_proven_backup_that_restores(shop: Shop) -> None:
    planned = shop.verb("backup", "--check")
    assert planned.code == 0, planned.output
    assert list(shop.store.iterdir()) == []

    done = shop.verb("backup")
    assert done.code == 0, done.output
    assert "1 set written and proven" in done.output

    listed = shop.verb("backups")
    assert listed.code == 0, listed.output
    assert "stored" in listed.output

    restored = shop.verb("restore")
    assert restored.code == 0, restored.output
    beside = shop.server.psql(r"SELECT datname FROM pg_database WHERE datname LIKE 'shop\_restore\_%'")
    assert shop.server.psql("SELECT count(*), sum(id) FROM orders", beside) == "500|125250"
