# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""repair: the shipped fixes on tables as the runbook shows them, each shown, done, proven and taken back."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import cast

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import repair
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import read_chain
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts, podcastflow, rows
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

ONE = pytest.mark.parametrize("server", [15], indirect=True)
FIXES = podcastflow.shipped("repairs.yml", "saasops_repairs")


def _ago(days: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(time.time() - days * 86400))


# around the requests that wait since three and four days
SHUT = {"off_from": _ago(4.5), "off_until": _ago(2.5)}


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


def mend(server: Server, store: Path, database: str, fix: str, check: bool = False, **parameters: object) -> Result:
    changes: dict[str, object] = {
        "fixes": FIXES,
        "fix": fix,
        "parameters": {name: value for name, value in parameters.items() if name not in ("fixes", "tenant", "reason")},
        "reason": "ticket 4711",
        "tenant_schemas": ["org_*"],
    }
    changes.update({name: value for name, value in parameters.items() if name in ("fixes", "tenant", "reason")})
    return repair.execute(acts.parameters(server, store, database, changes), acts.context(check))


def undo(server: Server, store: Path, database: str, result: Result) -> Result:
    changes = {"state": "put_back", "archives": result.evidence["archives"]}
    return repair.execute(acts.parameters(server, store, database, changes), acts.context())


# fix, parameters, what an independent look finds afterwards
DONE = [
    (
        "decide_approval",
        {"id": "a-a1", "decision": "approved"},
        """SELECT status FROM org_a."CampaignApproval" WHERE id = 'a-a1'""",
        "approved",
    ),
    (
        "decide_approval",
        {"id": "b-a4", "decision": "rejected"},
        """SELECT status FROM org_b."CampaignApproval" WHERE id = 'b-a4'""",
        "rejected",
    ),
    (
        "release_reservation",
        {"id": "a-stuck"},
        """SELECT count(*) FROM org_a."InventoryReservation" WHERE id = 'a-stuck'""",
        "0",
    ),
    (
        "missing_order",
        {"id": "b-bare"},
        """SELECT "campaignId", name FROM org_b."Order" WHERE id = 'order-b-bare'""",
        "b-bare|won without an order",
    ),
    (
        "decide_waiting_approvals",
        {"decision": "rejected", **SHUT},
        """SELECT count(*) FROM org_b."CampaignApproval" WHERE status = 'pending'""",
        "1",
    ),
]


@pytest.mark.parametrize(("fix", "parameters", "question", "answer"), DONE)
def test_a_fix_is_shown_done_repeated_and_taken_back(
    server: Server, flow: str, store: Path, fix: str, parameters: dict[str, object], question: str, answer: str
) -> None:
    before = picture(server, flow)
    shown = mend(server, store, flow, fix, check=True, **parameters)
    assert shown.plan is not None
    assert picture(server, flow) == before
    assert not (store / "archives").exists()
    done = mend(server, store, flow, fix, **parameters)
    assert done.changed
    assert done.plan is not None
    assert done.plan.envelope() == shown.plan.envelope()
    assert server.psql(question, flow) == answer
    assert picture(server, flow) != before
    again = mend(server, store, flow, fix, **parameters)
    assert not again.changed, "the same fix with the same parameters finds nothing to do"
    assert undo(server, store, flow, done).changed
    assert picture(server, flow) == before
    assert not undo(server, store, flow, done).changed


@ONE
def test_check_mode_shows_each_row_before_and_after(server: Server, flow: str, store: Path) -> None:
    shown = mend(server, store, flow, "decide_approval", check=True, id="a-a1", decision="approved")
    assert shown.plan is not None
    (action,) = shown.plan.actions
    assert action.object == "org_a.CampaignApproval id=a-a1"
    assert action.measured["status"] == "pending -> approved"
    assert action.reason == "ticket 4711"


REFUSED = [
    ("release_reservation", {"id": "a-live"}, "not_repairable", "it is live"),
    ("release_reservation", {"id": "a-kept"}, "not_repairable", "it is live"),
    ("release_reservation", {"id": "a-asked"}, "not_repairable", "was not rejected"),
    ("missing_order", {"id": "a-nameless"}, "not_repairable", "it has no name"),
    ("decide_approval", {"id": "a-a5", "decision": "rejected"}, "not_repairable", "its campaign is gone"),
    ("decide_approval", {"id": "a-a4", "decision": "approved"}, "not_repairable", "below 90 %"),
    ("decide_approval", {"id": "a-a1", "decision": "maybe"}, "parameter_invalid", "approved, rejected"),
    ("decide_approval", {"id": "x' OR true --", "decision": "approved"}, "parameter_invalid", "id is"),
    ("decide_approval", {"decision": "approved"}, "parameter_missing", "needs id"),
    ("decide_approval", {"id": "a-a1", "decision": "approved", "table": "Order"}, "parameter_unknown", "table"),
    ("release_all", {}, "fix_unknown", "decide_approval"),
]


@ONE
@pytest.mark.parametrize(("fix", "parameters", "code", "says"), REFUSED)
def test_what_is_not_to_be_repaired_is_refused_with_its_reason_and_nothing_changes(
    server: Server, flow: str, store: Path, fix: str, parameters: dict[str, object], code: str, says: str
) -> None:
    before = picture(server, flow)
    with pytest.raises(OpsError) as caught:
        mend(server, store, flow, fix, **parameters)
    assert caught.value.code == code
    assert says in caught.value.message
    assert picture(server, flow) == before


@ONE
def test_the_widest_definition_of_an_orphan_only_reports(server: Server, flow: str, store: Path) -> None:
    before = picture(server, flow)
    result = mend(server, store, flow, "widest_orphans")
    assert (result.changed, result.evidence["count"]) == (False, 6)
    assert picture(server, flow) == before


@ONE
def test_a_row_that_was_changed_since_the_repair_is_named_and_nothing_is_taken_back(
    server: Server, flow: str, store: Path
) -> None:
    done = mend(server, store, flow, "decide_waiting_approvals", decision="rejected", **SHUT)
    server.psql("""UPDATE org_a."CampaignApproval" SET status = 'approved' WHERE id = 'a-a1'""", flow)
    before = picture(server, flow)
    with pytest.raises(OpsError) as caught:
        undo(server, store, flow, done)
    assert caught.value.code == "row_changed_since"
    assert "a-a1" in caught.value.message
    assert picture(server, flow) == before


@ONE
def test_a_repair_whose_verification_does_not_hold_is_rolled_back(server: Server, flow: str, store: Path) -> None:
    fixes = [{**fix, "verify": "false"} for fix in FIXES]
    before = picture(server, flow)
    with pytest.raises(OpsError) as caught:
        mend(server, store, flow, "missing_order", id="a-bare", fixes=fixes)
    assert caught.value.code == "verify_failed"
    assert picture(server, flow) == before


@ONE
def test_an_order_that_lacks_a_required_column_is_refused_with_its_name(server: Server, flow: str, store: Path) -> None:
    server.psql(
        """ALTER TABLE org_a."Order" ADD "advertiserId" text NOT NULL DEFAULT 'x';
        ALTER TABLE org_a."Order" ALTER "advertiserId" DROP DEFAULT""",
        flow,
    )
    with pytest.raises(OpsError) as caught:
        mend(server, store, flow, "missing_order", id="a-bare")
    assert caught.value.code == "column_missing"
    assert "advertiserId" in caught.value.message


@ONE
def test_more_rows_than_the_limit_are_refused(server: Server, flow: str, store: Path) -> None:
    fixes = [{**fix, "limit": 3} for fix in FIXES]
    with pytest.raises(OpsError) as caught:
        mend(server, store, flow, "decide_waiting_approvals", decision="rejected", fixes=fixes, **SHUT)
    assert caught.value.code == "too_many_rows"
    narrowed = mend(
        server, store, flow, "decide_waiting_approvals", decision="rejected", fixes=fixes, tenant=["org_b"], **SHUT
    )
    assert narrowed.evidence["count"] == 2


@pytest.mark.essential
@ONE
def test_a_repair_by_its_playbook_is_undone_by_its_run(server: Server, flow: str, store: Path, tmp_path: Path) -> None:
    before = picture(server, flow)
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "mended",
            "saasops_database": flow,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(store)},
            "saasops_tenant_schemas": ["org_*"],
            "saasops_repairs": FIXES,
        },
    )

    def run(verb: str, *arguments: str) -> Run:
        return play(verb, hosts, *arguments, timeout=120)

    asked = ("-e", "fix=decide_approval", "-e", "id=a-a1", "-e", "decision=approved")
    refused = run("repair", *asked)
    assert "[reason_missing]" in refused.output, refused.output
    checked = run("repair", *asked, "-e", "reason='ticket 4711'", "--check")
    assert checked.code == 0, checked.output
    assert "pending -> approved" in checked.output
    assert picture(server, flow) == before
    done = run("repair", *asked, "-e", "reason='ticket 4711'")
    assert (done.code, done.changed) == (0, 1), done.output
    entries = [json.loads(entry.text) for entry in read_chain(PosixStore(str(store))).entries]
    (acted,) = [one["run"] for one in entries if isinstance(one.get("undo"), dict) and one["undo"]]
    assert "ticket 4711" in json.dumps(entries)
    undone = run("undo", "-e", f"run={acted}")
    assert (undone.code, undone.changed) == (0, 1), undone.output
    assert picture(server, flow) == before


REMEDIES = [
    cast("dict[str, dict[str, str]]", check["remedy"])
    for check in podcastflow.shipped("health.yml", "saasops_checks")
    if cast("dict[str, str]", check.get("remedy") or {}).get("verb") == "repair"
]


def test_each_remedy_that_names_a_fix_gives_all_that_the_fix_asks_for() -> None:
    assert len(REMEDIES) == 3
    fixes = {str(fix["name"]): fix for fix in FIXES}
    for remedy in REMEDIES:
        wanted = cast("list[dict[str, object]]", fixes[remedy["variables"]["fix"]]["parameters"])
        names = {str(parameter["name"]) for parameter in wanted if parameter.get("required", True)}
        assert names | {"fix", "tenant", "reason"} == set(remedy["variables"])


@ONE
def test_the_place_of_a_reason_is_no_reason(server: Server, flow: str, store: Path) -> None:
    with pytest.raises(OpsError) as caught:
        mend(server, store, flow, "release_reservation", id="a-stuck", reason="<why>")
    assert caught.value.code == "reason_missing"


@ONE
def test_the_line_that_health_shows_is_pasted_with_a_reason_and_repairs(
    server: Server, flow: str, store: Path, tmp_path: Path
) -> None:
    checks = podcastflow.shipped("health.yml", "saasops_checks")
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "mended",
            "saasops_database": flow,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(store)},
            "saasops_tenant_schemas": ["org_a"],
            "saasops_repairs": FIXES,
            "saasops_checks": [check for check in checks if check["name"] == "unreleased_reservations"],
            "health_builtin": False,
        },
    )
    left = """SELECT count(*) FROM org_a."InventoryReservation" WHERE id = 'a-stuck'"""
    told = play("health", hosts, "-e", "fail_on=never")
    (line,) = [line for line in told.output.splitlines() if "ansible-playbook saasops.runbook.repair" in line]
    pasted = json.loads(line.strip().rstrip(",")).replace("<why>", "ticket 4711, it was rejected")
    words = shlex.split(pasted)
    assert words[:4] == ["ansible-playbook", "saasops.runbook.repair", "-i", str(hosts)]
    assert server.psql(left, flow) == "1"
    done = play("repair", hosts, *words[4:])
    assert (done.code, done.changed) == (0, 1), done.output
    assert server.psql(left, flow) == "0"
