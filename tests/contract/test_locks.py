# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The advisory lock on real servers: one holder, a name for him, and nobody once his session is gone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import confirm, hold, holder, release
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.tests.lab.places import of_server
from ansible_collections.saasops.runbook.tests.lab.postgres import Server


@pytest.fixture
def sessions(server: Server) -> Iterator[tuple[Session, Session]]:
    place = of_server(server, "psycopg")
    with contextlib.closing(place):
        yield place.open(application_name="the first"), place.open(application_name="the second")


def test_one_holds_and_the_other_is_told_who(sessions: tuple[Session, Session]) -> None:
    first, second = sessions
    hold(first, "system", "database")
    with pytest.raises(OpsError) as refused:
        hold(second, "system", "database", wait=0.0)
    assert refused.value.code == "database_busy"
    assert f"the first (pid {first.pid}" in refused.value.cause
    assert f"pg_terminate_backend({first.pid})" in refused.value.remedy


@pytest.mark.parametrize(("system", "database"), [("other", "database"), ("system", "other"), ("syst", "emdatabase")])
def test_another_system_or_database_is_another_lock(
    sessions: tuple[Session, Session], system: str, database: str
) -> None:
    first, second = sessions
    hold(first, "system", "database")
    hold(second, system, database, wait=0.0)


def test_the_lock_ends_with_its_session(sessions: tuple[Session, Session]) -> None:
    first, second = sessions
    hold(first, "system", "database")
    first.close()
    hold(second, "system", "database", wait=5.0)
    confirm(second, "system", "database")


def test_a_transaction_that_is_rolled_back_does_not_free_it(sessions: tuple[Session, Session]) -> None:
    first, second = sessions
    hold(first, "system", "database")
    first.run("BEGIN")
    first.run("ROLLBACK")
    found = holder(second, "system", "database")
    assert found is not None
    assert found["pid"] == first.pid


def test_a_released_lock_is_nobodys(sessions: tuple[Session, Session]) -> None:
    first, second = sessions
    hold(first, "system", "database")
    release(first, "system", "database")
    assert holder(second, "system", "database") is None
    with pytest.raises(OpsError) as lost:
        confirm(first, "system", "database")
    assert lost.value.code == "lock_lost"


def test_a_server_that_ends_idle_sessions_does_not_free_it(sessions: tuple[Session, Session]) -> None:
    first, second = sessions
    first.run("SET idle_session_timeout = '100ms'")
    hold(first, "system", "database")
    second.value("SELECT pg_sleep(0.4)")
    confirm(first, "system", "database")
