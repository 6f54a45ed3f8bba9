# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shop of the guides: a server like a packaged one, and readers who follow a guide against it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.docs.guide import Reader
from ansible_collections.saasops.runbook.tests.lab import postgres, processes

# what stands in the guides for a secret; the lab plants one of its own
SHOWN_PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Shop:
    """A server with peer authentication on its socket, a database shop, and a role keeper with a password."""

    server: postgres.Server
    user: pwd.struct_passwd
    password: str


@pytest.fixture(scope="session")
def shop() -> Iterator[Shop]:
    password = f"it's {os.urandom(9).hex()} secret"
    with postgres.running(15, settings={"log_connections": "on"}) as server:
        user = processes.unprivileged()
        rules = server.data / "pg_hba.conf"
        rules.write_text("local all all peer\n" + rules.read_text(encoding="utf-8"), encoding="utf-8")
        server.reload()
        if user.pw_name != "postgres":
            server.psql(f'CREATE ROLE "{user.pw_name}" SUPERUSER LOGIN')
        quoted = password.replace("'", "''")
        server.psql(f"CREATE ROLE keeper SUPERUSER LOGIN PASSWORD '{quoted}'")
        server.createdb("shop")
        server.psql("CREATE TABLE orders AS SELECT generate_series(1, 500) AS id", "shop")
        yield Shop(server, user, password)


@pytest.fixture
def store(shop: Shop) -> Iterator[Path]:
    """An empty store that both the reader and the server's user may write to."""
    folder = shop.server.folder / "store"
    folder.mkdir(mode=0o700)
    shutil.chown(folder, shop.user.pw_uid, shop.user.pw_gid)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def reader(shop: Shop, store: Path, tmp_path: Path) -> Callable[..., Reader]:
    """Makes a reader of a guide; loud: one who runs every playbook with -vvvv."""

    def make(loud: bool = False) -> Reader:
        secret = tmp_path / "secret"
        secret.write_text(shop.password + "\n", encoding="utf-8")
        secret.chmod(0o600)
        values = {
            "/run/postgresql": f"{shop.server.socket_dir}, port: {shop.server.port}",
            "db.example.com": shop.server.host,
            "5432": str(shop.server.port),
            "/var/backups/shop": str(store),
            "/run/secrets/shop": str(secret),
            SHOWN_PASSWORD: shop.password,
        }
        if shop.user.pw_name != "postgres":
            values["ansible_become_user: postgres"] = f"ansible_become_user: {shop.user.pw_name}"
        found = Reader(tmp_path / "reader", values, shop.server.bin, loud)
        (found.home / ".vault-password").write_text("of the vault\n", encoding="utf-8")
        # what belongs to this machine and not to a guide: the host is here, and root becomes somebody by su
        here = ["ansible_connection: local", "ansible_become_method: su"]
        here.append(f"ansible_python_interpreter: {_interpreter(shop.user)}")
        groups = found.work / "group_vars"
        groups.mkdir()
        (groups / "all.yml").write_text("\n".join(here) + "\n", encoding="utf-8")
        if os.geteuid() != 0:
            found.values = {**values, "ansible_become: true": "ansible_become: false"}
        return found

    return make


def _interpreter(user: pwd.struct_passwd) -> str:
    """A Python that the server's user may run: ours, or the system's when ours is shut away in root's home."""
    if os.geteuid() != 0:
        return sys.executable
    try:
        subprocess.run([sys.executable, "-c", ""], user=user.pw_uid, cwd="/", capture_output=True, check=True)
    except (PermissionError, subprocess.CalledProcessError):
        return "/usr/bin/python3"
    return sys.executable
