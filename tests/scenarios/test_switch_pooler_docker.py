# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pooler that only the container with the client tools can reach is paused, and never for longer than we live."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.pause import Hold
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.pooler import poolers_of, read_pools
from ansible_collections.saasops.runbook.tests.lab.docker import PostgresContainer, docker
from ansible_collections.saasops.runbook.tests.lab.pgbouncer import PgBouncer, Setup
from ansible_collections.saasops.runbook.tests.lab.playbooks import COLLECTIONS
from ansible_collections.saasops.runbook.tests.lab.restores import until

HOLDING = """
import json, sys, time
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.pause import Hold
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.pooler import poolers_of, read_pools
given = json.load(sys.stdin)
target = Target.from_params(given["connection"], "saasops-test")
(pooler,) = poolers_of(given, "saasops-test")
with Hold(target, [(pooler, pool) for pool in read_pools(target, pooler, "postgres")]):
    time.sleep(60)
"""


@pytest.fixture
def pooler(docker_postgres: PostgresContainer) -> Iterator[PgBouncer]:
    """PgBouncer in the network of the container, which has no other; its files are here."""
    inside = docker("inspect", "--format={{.State.Pid}}", docker_postgres.name).strip()
    setup = Setup("transaction", "postgres = {server}", prefix=["nsenter", f"--target={inside}", "--net"])
    running = PgBouncer("host=127.0.0.1 port=5432", "postgres", docker_postgres.password, setup)
    try:
        running.start()
        yield running
    finally:
        running.remove()


def given(container: PostgresContainer, pooler: PgBouncer) -> dict[str, object]:
    return {"connection": container.params(), "poolers": [pooler.option()]}


def test_a_pool_is_held_and_released_through_exec(docker_postgres: PostgresContainer, pooler: PgBouncer) -> None:
    options = given(docker_postgres, pooler)
    target = Target.from_params(docker_postgres.params(), "saasops-test")
    (one,) = poolers_of(options, "saasops-test")
    with Hold(target, [(one, pool) for pool in read_pools(target, one, "postgres")]) as hold:
        assert pooler.paused("postgres")
    assert not pooler.paused("postgres")
    assert hold.left == ()
    assert hold.undrained == ()


def test_a_pool_is_resumed_when_the_module_is_killed(docker_postgres: PostgresContainer, pooler: PgBouncer) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        encoding="utf-8",
    ) as child:
        assert child.stdin is not None
        child.stdin.write(json.dumps(given(docker_postgres, pooler)))
        child.stdin.close()
        until(lambda: pooler.paused("postgres"))
        child.send_signal(signal.SIGKILL)
    until(lambda: not pooler.paused("postgres"), seconds=2)
