# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every changing module passes admission: nothing walks past it, and an operator hardly notices it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_proof import verify
from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import read_chain
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts, broken_tools, processes
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play, start_file
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)

DATABASE = "guarded"
# 29 February at three in the morning: closed whenever these tests run but then
CLOSED = [{"name": "leap", "rule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "start": "03:00", "duration": "1h"}]


APPROVAL: dict[str, object] = {"saasops_approval": {"verbs": ["backup"]}}


@dataclass(frozen=True)
class System:
    """One small database and its store, run from a folder that is the controller's home."""

    server: Server
    folder: Path

    @property
    def store(self) -> PosixStore:
        return PosixStore(str(self.folder / "store"))

    def variables(self) -> dict[str, object]:
        return {
            "saasops_system": "guarded",
            "saasops_database": DATABASE,
            "saasops_connection": acts.connection(self.server),
            "saasops_store": {"type": "posix", "path": str(self.folder / "store")},
        }

    def verb(
        self, name: str, *arguments: str, hosts: Mapping[str, Mapping[str, object]] | None = None, **more: object
    ) -> Run:
        """Run a verb; more are variables of the inventory."""
        return play(name, inventory(self.folder, {**self.variables(), **more}, hosts), *arguments)

    def file(self, text: str, *arguments: str, **more: object) -> Run:
        """Run a playbook of this text."""
        path = self.folder / "own.yml"
        path.write_text(text, encoding="utf-8")
        hosts = inventory(self.folder, {**self.variables(), **more})
        with start_file(path, hosts, *arguments) as process:
            output, _none = process.communicate(timeout=120)
        return Run(process.returncode, output)

    def records(self) -> list[dict[str, object]]:
        """The journal, which must verify."""
        chain = read_chain(self.store)
        assert verify(chain.entries) == []
        return [json.loads(entry.text) for entry in chain.entries]

    def kinds(self) -> list[str]:
        return [str(record["kind"]) for record in self.records()]

    def sets(self) -> int:
        return len([info for info in self.store.list("backups/") if info.key.endswith("manifest.json")])

    def held(self) -> list[str]:
        views, bad = Leases(self.store).status()
        assert bad == []
        return [view.name for view in views if view.state() == "held"]


@pytest.fixture
def system(server: Server, tmp_path: Path) -> Iterator[System]:
    (tmp_path / "store").mkdir()
    server.dropdb(DATABASE)
    server.psql(f"CREATE DATABASE {DATABASE}")
    server.psql("CREATE TABLE t AS SELECT generate_series(1, 100) AS id", DATABASE)
    yield System(server, tmp_path)
    server.dropdb(DATABASE)


BARE = f"""
- hosts: all
  gather_facts: false
  tasks:
    - name: Something before
      ansible.builtin.debug:
        msg: before
      tags: [before]
    - name: Back up
      saasops.runbook.pg_backup:
        system: "{{{{ saasops_system }}}}"
        database: {DATABASE}
        connection: "{{{{ saasops_connection }}}}"
        store: "{{{{ saasops_store }}}}"
      tags: [bare]
"""
ROLE = """
- hosts: all
  gather_facts: false
  roles: [saasops.runbook.database_backup]
"""


@pytest.mark.essential
def test_a_backup_writes_intent_and_outcome_and_leaves_nothing_held(system: System) -> None:
    run = system.verb("backup")
    assert run.code == 0, run.output
    records = system.records()
    assert [record["kind"] for record in records] == ["run_started", "intent", "outcome"]
    assert len({record["run"] for record in records}) == 1
    intent, outcome = records[1], records[2]
    assert intent["plan"]["actions"][0]["kind"] == "dump"
    assert (outcome["changed"], outcome["failed"], outcome["verb"], outcome["class"]) == (
        True,
        False,
        "backup",
        "routine",
    )
    assert system.held() == []


@pytest.mark.essential
@pytest.mark.parametrize(
    "arguments",
    [["--tags", "bare"], ["--skip-tags", "before"], ["--start-at-task", "Back up"], []],
    ids=["tags", "skip-tags", "start-at-task", "bare module"],
)
def test_no_way_leads_past_admission(system: System, arguments: list[str]) -> None:
    run = system.file(BARE, *arguments, saasops_windows=CLOSED)
    assert run.code != 0
    assert "[window_closed]" in run.output
    assert system.sets() == 0
    assert system.kinds() == ["run_started", "refusal"]


def test_a_role_on_its_own_is_refused_too(system: System) -> None:
    run = system.file(ROLE, saasops_windows=CLOSED)
    assert "[window_closed]" in run.output
    assert system.sets() == 0


def test_the_options_of_admission_cannot_be_given(system: System) -> None:
    text = BARE.replace("        database:", "        guard: {run: x}\n        database:")
    run = system.file(text, saasops_windows=CLOSED)
    assert "[internal_option]" in run.output
    assert system.sets() == 0


def test_without_the_guard_it_runs_and_that_is_journaled(system: System) -> None:
    run = system.verb("backup", saasops_windows=CLOSED, saasops_guard="none")
    assert run.code == 0, run.output
    assert system.sets() == 1
    assert system.kinds() == ["run_started", "bypass", "intent", "outcome"]
    assert system.records()[1]["past"][0]["code"] == "guard_none"


@pytest.mark.essential
def test_module_defaults_still_apply(system: System) -> None:
    text = BARE.replace(f"        database: {DATABASE}\n", "").replace(
        "  tasks:", f"  module_defaults:\n    group/saasops.runbook.database:\n      database: {DATABASE}\n  tasks:"
    )
    run = system.file(text)
    assert run.code == 0, run.output
    assert system.sets() == 1


def test_check_mode_reports_and_is_never_refused(system: System) -> None:
    run = system.verb("backup", "--check", saasops_windows=CLOSED, saasops_approval={"classes": ["routine"]})
    assert run.code == 0, run.output
    assert "would be refused: [window_closed]" in run.output
    assert "would be refused: [approval_required]" in run.output
    assert f"demo: dump {DATABASE} (all schemas)" in run.output
    assert re.search(r"demo: envelope [0-9a-f]{12}: 1 acts, at most 1 sets", run.output)
    assert system.store.list("") == []


def test_all_refusals_come_at_once(system: System) -> None:
    run = system.verb(
        "backup", saasops_windows=CLOSED, saasops_approval={"verbs": ["backup"]}, saasops_limits={"sets": 0}
    )
    assert run.code != 0
    for code in ("window_closed", "approval_required", "blast_radius"):
        assert f"[{code}]" in run.output
    assert "would touch 1 sets; the system allows 0" in run.output
    assert system.sets() == 0
    assert system.held() == []


@pytest.mark.essential
def test_an_approved_plan_runs_and_one_object_more_does_not(system: System) -> None:
    asks: dict[str, object] = {"saasops_approval": {"verbs": ["backup"]}}
    refused = system.verb("backup", **asks)
    assert "[approval_required]" in refused.output
    (plan,) = [info.key[len("plans/") : -len(".json")] for info in system.store.list("plans/")]
    assert f"approve -e plan={plan}" in refused.output
    own = system.verb("approve", "-e", f"plan={plan}", "-e", "guard_by=root", **asks)
    assert own.code == 0, own.output
    assert "Only you approved it yourself" in system.verb("backup", **asks).output
    assert system.verb("approve", "-e", f"plan={plan}", "-e", "guard_by=berta", **asks).code == 0
    again = system.verb("approve", "-e", f"plan={plan}", "-e", "guard_by=berta", **asks)
    assert again.changed == 0
    assert "already" in again.output
    run = system.verb("backup", **asks)
    assert run.code == 0, run.output
    assert system.sets() == 1
    more = system.verb("backup", "-e", "schemas=public", **asks)
    assert "[outside_envelope]" in more.output
    assert "one more object" in more.output
    assert system.sets() == 1


def kept_plan(refused: Run) -> str:
    """The id of the plan that a refusal names."""
    assert "[approval_required]" in refused.output
    return refused.output.partition("approve -e plan=")[2].split()[0].strip("'\"\\.,")


def pgbench(system: System, *arguments: str) -> None:
    argv = [str(system.server.bin / "pgbench"), *arguments, DATABASE]
    subprocess.run(argv, env=system.server.environment(), check=True, capture_output=True, timeout=120)


def test_an_hour_of_traffic_changes_nothing_about_what_was_agreed(system: System) -> None:
    """A minute of pgbench between the plan and its execution: rows and sizes are measured, and no part of it."""
    pgbench(system, "--initialize", "--quiet", "--scale=1")
    checked = system.verb("backup", "--check", **APPROVAL)
    assert checked.code == 0, checked.output
    assert "would be refused: [approval_required]" in checked.output
    plan = kept_plan(system.verb("backup", **APPROVAL))
    assert system.verb("approve", "-e", f"plan={plan}", "-e", "guard_by=berta", **APPROVAL).code == 0
    before = int(system.server.psql("SELECT count(*) FROM pgbench_history", DATABASE))
    pgbench(system, "--client=4", "--time=60", "--no-vacuum")
    assert int(system.server.psql("SELECT count(*) FROM pgbench_history", DATABASE)) > before + 1000
    run = system.verb("backup", **APPROVAL)
    assert run.code == 0, run.output
    assert system.sets() == 1


def test_long_work_stops_at_the_end_of_its_window_and_leaves_nothing(system: System, tmp_path: Path) -> None:
    tools = broken_tools.make(tmp_path / "tools", system.server.bin, "pg_dump", "hang")
    now = datetime.now(timezone.utc)
    begin = (now - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S")
    window = [{"name": "short", "start": begin, "duration": "3630s"}]
    login = {**acts.connection(system.server), "client_bin": str(tools)}
    rules = {"saasops_windows": window, "saasops_connection": login, "saasops_staging": str(tmp_path)}
    run = system.verb("backup", **rules)
    assert run.code != 0
    assert "[window_ended]" in run.output
    # meanwhile whoever waits was told how far it is, in whole lines
    told = re.findall(r"^    demo: dumping all schemas: .* bytes \(\d+ %\), .* MB/s, about .* left$", run.output, re.M)
    assert len(told) > 2
    assert 29 < time.time() - now.timestamp() < 90
    outcome = system.records()[-1]
    assert (outcome["kind"], outcome["code"], outcome["failed"]) == ("outcome", "window_ended", True)
    assert system.sets() == 0
    assert system.held() == []
    assert processes.mentioning(tools / "pg_dump") == []
    assert system.server.psql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'guarded'").strip() == "0"
    assert system.verb("backup").code == 0


def test_an_approval_ends(system: System) -> None:
    asks: dict[str, object] = {"saasops_approval": {"verbs": ["backup"]}}
    system.verb("backup", **asks)
    (plan,) = [info.key[len("plans/") : -len(".json")] for info in system.store.list("plans/")]
    assert system.verb("approve", "-e", f"plan={plan}", "-e", "guard_by=berta", "-e", "valid_for=1s", **asks).code == 0
    time.sleep(1.1)
    assert "[approval_expired]" in system.verb("backup", **asks).output
    assert system.sets() == 0


def test_break_glass_goes_past_the_window_and_says_so(system: System) -> None:
    run = system.verb("backup", "-e", "break_glass='the volume dies'", saasops_windows=CLOSED)
    assert run.code == 0, run.output
    assert "[window_closed] gone past" in run.output
    assert "bypass" in system.kinds()
    (bypass,) = [record for record in system.records() if record["kind"] == "bypass"]
    assert bypass["reason"] == "the volume dies"


@pytest.mark.essential
def test_several_hosts_plan_decide_once_and_apply(system: System) -> None:
    hosts: dict[str, dict[str, object]] = {"one": {}, "two": {"saasops_database": "guarded_two"}}
    system.server.dropdb("guarded_two")
    system.server.createdb("guarded_two", DATABASE)
    try:
        checked = system.verb("backup", "--check", hosts=hosts)
        assert checked.code == 0, checked.output
        assert "one: dump guarded (all schemas)" in checked.output
        assert "two: dump guarded_two (all schemas)" in checked.output
        assert checked.output.count(": 1 acts, at most 1 sets") == 2
        assert "the run: 2 actions on 2 hosts, envelope" in checked.output
        assert system.store.list("") == []
        run = system.verb("backup", hosts=hosts, saasops_batch=1)
        assert run.code == 0, run.output
        assert system.sets() == 2
        assert len({record["run"] for record in system.records()}) == 1
        assert len(system.store.list("plans/")) == 1
        assert system.held() == []
        over = system.verb("backup", hosts=hosts, saasops_limits={"hosts": 1})
        assert "would touch 2 hosts; the system allows 1" in over.output
        assert system.sets() == 2
        only = system.verb("backup", "--limit", "two", hosts=hosts, saasops_limits={"hosts": 1})
        assert only.code == 0, only.output
        assert system.sets() == 3
    finally:
        system.server.dropdb("guarded_two")


def test_every_run_keeps_the_journals_head_in_the_second_place(system: System) -> None:
    anchor = system.folder / "anchor"
    run = system.verb("backup", saasops_journal_anchor=str(anchor))
    assert run.code == 0, run.output
    (kept,) = (path.name for path in anchor.rglob("*") if path.is_file())
    assert kept.startswith("00000003-")
    shown = system.verb("journal_verify", saasops_journal_anchor={"path": str(anchor)})
    assert "The journal is whole: 3 records; it holds the 1 anchored heads, the newest is number 3." in shown.output
    gone = system.verb("backup", saasops_journal_anchor="/proc/nowhere")
    assert gone.code == 0, gone.output
    assert "the journal's head 6 was not anchored" in gone.output


def test_a_required_journal_refuses_a_run_that_is_not_seen_whole(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = system.verb("backup", saasops_journal="required")
    assert refused.code != 0
    assert "[journal_unavailable]" in refused.output
    assert "callbacks_enabled = saasops.runbook.witness" in refused.output
    assert system.sets() == 0
    past = system.verb("backup", "-e", "break_glass='no configuration here'", saasops_journal="required")
    assert past.code == 0, past.output
    assert "[journal_unavailable] gone past" in past.output
    monkeypatch.setenv("ANSIBLE_CALLBACKS_ENABLED", "saasops.runbook.witness")
    seen = system.verb("backup", saasops_journal="required")
    assert seen.code == 0, seen.output
    assert system.sets() == 2


def test_a_required_journal_that_cannot_be_written_stops_the_run_before_it_acts(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_CALLBACKS_ENABLED", "saasops.runbook.witness")
    # a file where the journal's folder would be, as a disk that takes leases and no records
    (system.folder / "store" / "journal").write_text("", encoding="utf-8")
    refused = system.verb("backup", saasops_journal="required")
    assert refused.code != 0
    assert "[journal_unavailable]" in refused.output
    assert system.sets() == 0
    assert system.held() == []
    # where it is not required, the records wait on the controller
    run = system.verb("backup")
    assert run.code == 0, run.output
    (system.folder / "store" / "journal").unlink()
    assert system.verb("backup").code == 0
    assert system.kinds().count("outcome") == 2


def test_the_login_of_the_second_place_does_not_travel_without_pipelining(system: System) -> None:
    anchor = {"type": "s3", "bucket": "audit", "access_key": "audit", "secret_key": "planted-secret"}
    plain = {name: value for name, value in acts.connection(system.server).items() if name != "password"}
    rules = {"saasops_journal_anchor": anchor, "saasops_connection": plain, "ansible_pipelining": False}
    run = system.verb("backup", "-vvvv", **rules)
    assert run.code != 0
    assert "[pipelining_required]" in run.output
    assert "guard_anchor.secret_key" in run.output
    assert "planted-secret" not in run.output
    assert system.sets() == 0


@pytest.mark.essential
def test_an_unreachable_host_stops_the_system_unless_it_may_fail(system: System) -> None:
    hosts: dict[str, dict[str, object]] = {
        "one": {},
        "gone": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1},
    }
    run = system.verb("backup", hosts=hosts)
    assert run.code != 0
    assert "[hosts_failed]" in run.output
    assert "gone" in run.output
    assert system.sets() == 0
    allowed = system.verb("backup", hosts=hosts, saasops_max_failed=1)
    assert system.sets() == 1, allowed.output
    assert system.held() == []
