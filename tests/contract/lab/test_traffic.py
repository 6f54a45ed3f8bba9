# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time

import pytest

from ansible_collections.saasops.runbook.tests.lab import postgres
from ansible_collections.saasops.runbook.tests.lab.proxy import Fault, Proxy
from ansible_collections.saasops.runbook.tests.lab.restores import until
from ansible_collections.saasops.runbook.tests.lab.traffic import Prober, Writer

pytestmark = pytest.mark.parametrize("server", [18], indirect=True)


@pytest.fixture
def marked(server: postgres.Server, database: str) -> str:
    server.psql("CREATE TABLE marker (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, writer text)", database)
    return database


def test_every_row_the_writer_counts_is_committed(server: postgres.Server, marked: str) -> None:
    with Writer(server.dsn(marked)) as writer:
        until(lambda: len(writer.committed) > 10)
    assert int(server.psql("SELECT count(*) FROM marker", marked)) == len(writer.committed) > 10
    assert int(server.psql("SELECT max(id) FROM marker", marked)) == writer.last


def test_the_writer_goes_on_after_its_session_was_ended(server: postgres.Server, marked: str) -> None:
    with Writer(server.dsn(marked)) as writer:
        server.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{marked}'")
        before = writer.last
        until(lambda: writer.last > before)
    assert writer.refused >= 1


def test_the_prober_measures_an_outage_and_not_more(server: postgres.Server, marked: str) -> None:
    with Proxy(server.port) as proxy:
        dsn = server.dsn(marked).replace(f"port='{server.port}'", f"port='{proxy.port}'")
        with Prober(dsn) as prober:
            time.sleep(0.2)
            proxy.fault = Fault("refuse")
            begun = time.monotonic()
            time.sleep(0.5)
            outage = time.monotonic() - begun
            proxy.fault = None
            time.sleep(0.2)
    # a busy machine may add to it, never take away
    assert outage <= prober.largest_gap < outage + 10
    assert prober.failures


def test_an_outage_that_does_not_end_counts_until_the_end(server: postgres.Server, marked: str) -> None:
    with Prober(server.dsn(marked)) as prober:
        server.psql(f'ALTER DATABASE "{marked}" ALLOW_CONNECTIONS false')
        time.sleep(0.4)
    assert prober.largest_gap >= 0.35


def test_a_client_that_never_succeeds_is_an_error_at_once(server: postgres.Server, marked: str) -> None:
    prober = Prober(server.dsn("no such database"))
    with pytest.raises(TimeoutError):
        prober.begin(0.3)
    prober.finish()
