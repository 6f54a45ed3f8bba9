# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real streaming standby of a lab server."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator

from ansible_collections.saasops.runbook.tests.lab import postgres, processes


def _await_stream(primary: postgres.Server, name: str) -> None:
    """Until the primary sends to it: before that it is nobody's replica."""
    there = f"SELECT count(*) FROM pg_stat_replication WHERE application_name = '{name}' AND state = 'streaming'"
    deadline = time.monotonic() + 60
    while primary.psql(there) != "1":
        if time.monotonic() > deadline:
            raise RuntimeError("the standby does not stream")
        time.sleep(0.05)


@contextlib.contextmanager
def following(primary: postgres.Server, name: str = "standby", slot: str = "") -> Iterator[postgres.Server]:
    """A standby on 127.0.0.1 that follows the primary, by a slot when one is named, which stays behind.

    pg_wal_replay_pause() on it makes it lag.
    """
    copy = postgres.Server(primary.version, postgres.Options())
    try:
        for path in copy.data.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        argv = [str(primary.bin / "pg_basebackup"), "-D", str(copy.data), "-R", "-c", "fast", "-X", "stream"]
        argv += ["-C", "-S", slot] if slot else []
        done = subprocess.run(
            [*argv, "-d", f"application_name={name}"],
            # not in argv, and not as a file: the standby keeps it to come again with
            env={**primary.environment(), "PGPASSWORD": primary.password},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        owner = processes.unprivileged()
        subprocess.run(["chown", "-R", f"{owner.pw_uid}:{owner.pw_gid}", str(copy.data)], check=True)
        copy.configure({"port": str(copy.port)}, unix_socket_directories=str(copy.socket_dir))
        copy.password = primary.password
        copy.start()
        _await_stream(primary, name)
        yield copy
    finally:
        copy.remove()
