# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pools lead to a database, and what PgBouncer's words mean."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pooler import Pool, choose_pools, pooler_failure

CONFIG = {"pool_mode": "transaction", "query_wait_timeout": "120", "server_login_retry": "15"}


def entry(name: str, database: str = "", mode: str = "", paused: str = "0") -> dict[str, str]:
    return {"name": name, "database": database or name, "pool_mode": mode, "paused": paused}


def chosen(rows: list[dict[str, str]], wanted: str = "", pools: tuple[dict[str, str], ...] = ()) -> list[Pool]:
    return choose_pools("p:6432", rows, pools, CONFIG, "live", wanted)


def test_every_name_that_leads_to_the_live_database_is_chosen() -> None:
    rows = [entry("live"), entry("app", "live"), entry("other"), entry("live2", "other"), entry("pgbouncer")]
    assert [pool.name for pool in chosen(rows)] == ["live", "app"]


def test_a_name_that_is_asked_for_is_chosen_alone() -> None:
    assert [pool.label for pool in chosen([entry("live"), entry("app", "live")], "app")] == ["app at p:6432"]


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([], ""),
        ([entry("other")], ""),
        ([entry("live", "other")], ""),
        ([entry("live")], "app"),
        ([entry("app", "other")], "app"),
    ],
)
def test_a_pooler_that_does_not_lead_there_is_refused(rows: list[dict[str, str]], wanted: str) -> None:
    with pytest.raises(OpsError) as refused:
        chosen(rows, wanted)
    assert refused.value.code == "pooler_database_unknown"


@pytest.mark.parametrize(
    ("row", "pools", "sharing"),
    [
        (entry("live"), (), True),
        (entry("live", mode="session"), (), False),
        (entry("live", mode="statement"), (), True),
        # what a user's own mode made of the pool counts, not the entry's
        (entry("live"), ({"database": "live", "pool_mode": "session"},), False),
        (entry("live"), ({"database": "other", "pool_mode": "session"},), True),
        (entry("live", mode="session"), ({"database": "live", "pool_mode": "transaction"},), True),
    ],
)
def test_a_pool_shares_servers_when_all_its_modes_do(
    row: dict[str, str], pools: tuple[dict[str, str], ...], sharing: bool
) -> None:
    (pool,) = chosen([row], pools=pools)
    assert pool.sharing is sharing
    assert bool(pool.warnings()) is not sharing


def test_what_is_paused_already_is_said_to_be_somebody_elses() -> None:
    (pool,) = chosen([entry("live", paused="1")])
    assert pool.paused
    assert "somebody else" in pool.warnings()[0]


def test_times_of_the_configuration_are_seconds() -> None:
    (pool,) = chosen([entry("live")])
    assert (pool.patience, float(pool.login_retry)) == (120.0, 15.0)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('psql: error: connection to server at "h", port 1 failed: Connection refused', "pooler_unreachable"),
        ('psql: error: could not translate host name "x" to address', "pooler_unreachable"),
        ("no answer to SHOW VERSION within 10 seconds", "pooler_unreachable"),
        ("connection failed: FATAL:  SASL authentication failed", "pooler_wrong_password"),
        ("connection failed: fe_sendauth: no password supplied", "pooler_wrong_password"),
        ("connection failed: FATAL:  password authentication failed", "pooler_wrong_password"),
        ("connection failed: FATAL:  not allowed", "pooler_not_admin"),
        ("admin access needed", "pooler_not_admin"),
        ("already suspended/paused", "pooler_failed"),
        ("", "pooler_failed"),
    ],
)
def test_what_pgbouncer_said_becomes_a_code_and_a_remedy(text: str, code: str) -> None:
    error = pooler_failure("p:6432", text)
    assert error.code == code
    assert error.remedy
    assert "p:6432" in error.cause
