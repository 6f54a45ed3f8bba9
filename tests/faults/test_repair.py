# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repair that is killed, hindered or starved has either not begun or is whole, and can be taken back."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import repair
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result, Unguarded
from ansible_collections.saasops.runbook.tests.lab import acts, podcastflow, row_kill, rows
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

ONE = pytest.mark.parametrize("server", [15], indirect=True)
FIXES = podcastflow.shipped("repairs.yml", "saasops_repairs")
ACTS: list[tuple[str, dict[str, str]]] = [
    ("decide_approval", {"id": "a-a1", "decision": "approved"}),
    ("release_reservation", {"id": "a-stuck"}),
    ("missing_order", {"id": "a-bare"}),
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (folder := tmp_path / "store").mkdir()
    return folder


@pytest.fixture
def flow(server: Server, database: str) -> str:
    podcastflow.make(server, database)
    return database


def picture(server: Server, database: str) -> list[str]:
    return [rows.picture(server, database, schema, podcastflow.TABLES) for schema in ("org_a", "org_b")]


def mend(
    server: Server,
    store: Path,
    database: str,
    act: tuple[str, dict[str, str]],
    hook: Callable[[], object] | None = None,
    **more: object,
) -> Result:
    context = acts.context()
    if hook is not None:
        admission = Unguarded()
        admission.confirm = hook  # type: ignore[method-assign,assignment]
        context = replace(context, admission=admission)
    changes = {
        "fixes": FIXES,
        "fix": act[0],
        "parameters": act[1],
        "reason": "test",
        "tenant_schemas": ["org_*"],
        **more,
    }
    return repair.execute(acts.parameters(server, store, database, changes), context)


def back(server: Server, store: Path, database: str) -> None:
    archives = sorted(path.parent.name for path in store.glob("archives/*/begun.json"))
    if archives:
        changes = {"state": "put_back", "archives": archives}
        repair.execute(acts.parameters(server, store, database, changes), acts.context())


@ONE
@pytest.mark.parametrize("act", ACTS, ids=[item[0] for item in ACTS])
def test_a_kill_at_any_step_leaves_all_or_nothing_and_the_way_back_stands(
    server: Server, flow: str, store: Path, tmp_path: Path, act: tuple[str, dict[str, str]]
) -> None:
    before = picture(server, flow)
    log = tmp_path / "log"
    assert row_kill.steps(lambda: mend(server, store, flow, act), log) == 0
    assert picture(server, flow) != before
    steps = log.read_text(encoding="utf-8").splitlines()
    back(server, store, flow)
    shutil.rmtree(store / "archives", ignore_errors=True)
    first = next(number for number, name in enumerate(steps) if name.startswith("put archives"))
    for at in range(first, len(steps)):
        assert os.WIFSIGNALED(row_kill.steps(lambda: mend(server, store, flow, act), log, at)), steps[at]
        # the server ends the transaction of a client that is gone
        deadline = time.monotonic() + 5
        busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'saasops-repair%'"
        while server.psql(busy) != "0" and time.monotonic() < deadline:
            time.sleep(0.02)
        committed = "COMMIT" in log.read_text(encoding="utf-8")
        assert (picture(server, flow) != before) == committed, steps[at]
        back(server, store, flow)
        assert picture(server, flow) == before, steps[at]
        shutil.rmtree(store / "archives", ignore_errors=True)


@ONE
@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("""UPDATE org_a."CampaignApproval" SET "updatedAt" = now() WHERE id = 'a-a1'""", "rows_changed"),
        ("""DELETE FROM org_a."CampaignApproval" WHERE id = 'a-a1'""", "rows_changed"),
        ("""UPDATE org_a."Campaign" SET probability = 10 WHERE id = 'a-open'""", "not_repairable"),
    ],
)
def test_what_changes_between_plan_and_act_stops_it(
    server: Server, flow: str, store: Path, statement: str, code: str
) -> None:
    meanwhile: list[list[str]] = []

    def meddle() -> None:
        server.psql(statement, flow)
        meanwhile.append(picture(server, flow))

    with pytest.raises(OpsError) as caught:
        mend(server, store, flow, ACTS[0], meddle)
    assert caught.value.code == code
    assert picture(server, flow) == meanwhile[0]


@ONE
def test_a_row_that_is_locked_is_waited_for_a_bounded_time(server: Server, flow: str, store: Path) -> None:
    fixes = [{**fix, "lock_timeout": "1s"} for fix in FIXES]
    with server.connect(flow) as holder:
        holder.autocommit = False
        with holder.cursor() as cursor:
            cursor.execute("""SELECT FROM org_a."CampaignApproval" FOR UPDATE""")
            began = time.monotonic()
            with pytest.raises(OpsError) as caught:
                mend(server, store, flow, ACTS[0], fixes=fixes)
            assert caught.value.code == "lock_timeout"
            assert 0.9 < time.monotonic() - began < 30
    holder.close()
    assert mend(server, store, flow, ACTS[0]).changed


@ONE
def test_a_store_that_is_down_changes_nothing(server: Server, flow: str, tmp_path: Path) -> None:
    before = picture(server, flow)
    with pytest.raises(OpsError) as caught:
        mend(server, tmp_path / "nothing", flow, ACTS[0])
    assert caught.value.code.startswith("store_")
    assert picture(server, flow) == before


@ONE
def test_missing_rights_are_refused_with_the_grant(server: Server, flow: str, store: Path) -> None:
    server.psql(
        "CREATE ROLE looker LOGIN PASSWORD 'looker'; GRANT USAGE ON SCHEMA org_a TO looker;"
        "GRANT SELECT ON ALL TABLES IN SCHEMA org_a TO looker",
        flow,
    )
    try:
        with pytest.raises(OpsError) as caught:
            mend(server, store, flow, ACTS[0], connection=acts.connection(server, user="looker", password="looker"))
        assert caught.value.code == "not_permitted"
        assert "UPDATE" in caught.value.message
    finally:
        server.psql("DROP OWNED BY looker; DROP ROLE looker", flow)
