# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every verb runs where nobody sits: by ansible-runner without a terminal, and as steps of a CI job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from ansible_collections.saasops.runbook.tests.lab import acts
from ansible_collections.saasops.runbook.tests.lab.playbooks import COLLECTIONS
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import drop_family

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)

DATABASE = "lonely"
ROOT = Path(__file__).resolve().parents[2]
# as AWX does: in a process of its own, and no terminal to ask anybody
RUNNER = """
import json, sys, ansible_runner
settings = json.loads(sys.argv[1])
run = ansible_runner.run(quiet=True, **settings)
said = [e["stdout"] for e in run.events if e.get("stdout")]
print(json.dumps({"status": run.status, "code": run.rc, "output": "\\n".join(said)}))
"""


@dataclass
class Awx:
    """A project that cannot be written to, an inventory of one host without variables, and a job's own folder."""

    folder: Path
    variables: Mapping[str, object]

    @property
    def environment(self) -> dict[str, str]:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "ANSIBLE_HOME": str(home / "ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_NOCOLOR": "1",
        }

    def run(self, verb: str, **extra: object) -> dict[str, object]:
        """A job: everything that it is told comes as extra variables."""
        data = self.folder / f"job-{verb}-{len(list(self.folder.iterdir()))}"
        project = self.folder / "project"
        settings = {
            "private_data_dir": str(data),
            "project_dir": str(project),
            "playbook": f"saasops.runbook.{verb}",
            "inventory": "awx ansible_connection=local",
            "extravars": {**self.variables, **extra},
            "envvars": {"ANSIBLE_PIPELINING": "1"},
        }
        data.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, json.dumps(settings)],
            env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=120,
            check=False, start_new_session=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return answer


@pytest.fixture
def awx(server: Server, tmp_path: Path) -> Iterator[Awx]:
    server.dropdb(DATABASE)
    server.psql(f"CREATE DATABASE {DATABASE}")
    server.psql(
        "CREATE SCHEMA org_a; CREATE TABLE org_a.u (id int PRIMARY KEY);"
        "INSERT INTO org_a.u SELECT generate_series(1, 50)",
        DATABASE,
    )
    project = tmp_path / "project"
    for folder in (project, tmp_path / "store", tmp_path / "copy"):
        folder.mkdir()
    project.chmod(0o555)
    # root writes into a folder of mode 0555: a mount does what the mode says
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(project)], check=True)
    yield Awx(
        tmp_path,
        {
            "ansible_python_interpreter": sys.executable,
            "saasops_system": DATABASE,
            "saasops_database": DATABASE,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(tmp_path / "store")},
            "saasops_store_copies": [{"path": str(tmp_path / "copy")}],
            "saasops_retention": {"daily": 1, "minimum_proven": 1},
            "awx_user_name": "anna",
        },
    )
    subprocess.run(["umount", "--lazy", str(project)], check=True)
    drop_family(server, DATABASE)


def _care(well: Callable[..., str], folder: Path) -> None:
    """The verbs that look after a database; what their inventory would say comes as extra variables."""
    assert "looked through saasops_connection" in well("triage")
    (folder / "migrations").mkdir()
    (folder / "migrations" / "001_seen.sql").write_text("ALTER TABLE org_a.u ADD COLUMN seen date;\n", encoding="utf-8")
    tables = {"table": "u", "schemas": ["org_a"]}
    checks = [{"name": "rows", "sql": {"query": "SELECT count(*) FROM org_a.u"}, "warning": "> 1000"}]
    fix = {
        **tables, "name": "see", "parameters": [{"name": "id", "type": "integer"}], "where": "t.id = :id",
        "set": {"seen": "CURRENT_DATE"},
    }  # fmt: skip
    assert "rows" in well("health", only="rows", saasops_checks=checks)
    assert "1 ok of 1" in well("checks", set="daily", saasops_checks=checks, saasops_check_sets={"daily": ["rows"]})
    assert "Nothing was asked for" in well("sessions")
    well("maintenance")
    migrations = {"folder": str(folder / "migrations"), "staging": "off", "backup": "off"}
    well("migrate", saasops_migrations=migrations, baseline=0)
    assert "001_seen" in well("migrate", saasops_migrations=migrations)
    well("index", saasops_indexes=[{**tables, "name": "u_seen", "columns": ["seen"]}])
    well("repair", saasops_repairs=[fix], fix="see", id=7, reason="it was seen")
    well("cleanup", saasops_purge_rules=[{**tables, "name": "old", "where": "t.id > 45"}])
    well("integrity")


# some thirty runs, each through ansible-runner
@pytest.mark.timeout(900)
def test_every_verb_runs_as_a_job_of_awx(awx: Awx) -> None:
    pytest.importorskip("ansible_runner")

    def well(verb: str, **extra: object) -> str:
        answer = awx.run(verb, **extra)
        assert answer["code"] == 0, f"{verb}: {answer['output']}"
        return str(answer["output"])

    well("discover")
    well("backup")
    newest = max(path.name for path in (awx.folder / "store" / "backups").iterdir())
    assert newest in well("backups")
    well("copy")
    well("pin", set=newest, reason="kept")
    well("restore_drill")
    well("restore", switch=True)
    well("undo", acknowledge_loss=0)
    well("backup", key="again")
    well("restore_finish")
    well("restore_tenant", tenant="org_a")
    well("prune")
    well("hold", reason="rows are repaired")
    well("hold", state="released")
    _care(well, awx.folder)
    assert "No run is under way" in well("status")
    well("reconcile")
    page = awx.folder / "pages" / "report.html"
    page.parent.mkdir()
    well("report", dest=str(page))
    assert "restore_tenant" in page.read_text(encoding="utf-8")
    asks = {"saasops_approval": {"verbs": ["backup"]}}
    refused = awx.run("backup", key="asked", **asks)
    assert "[approval_required]" in str(refused["output"])
    plan = str(refused["output"]).partition("approve -e plan=")[2].split()[0].strip("'\"\\.,")
    # the one who asked is not the one who agrees, and AWX says who is who
    well("approve", plan=plan, awx_user_name="berta", **asks)
    well("backup", key="asked", **asks)
    unlocked = awx.run("unlock", reason="nobody there", lease="database:none")
    assert "[lease_unknown]" in str(unlocked["output"])
    assert "anna" in well("journal_verify")
    # every playbook of the collection was a job here
    jobs = {path.name.split("-")[1] for path in awx.folder.glob("job-*")}
    assert {path.stem for path in (ROOT / "playbooks").glob("*.yml")} - jobs == set()


def test_the_ci_job_plans_is_approved_applies_in_the_window_and_keeps_the_report(awx: Awx) -> None:
    inventory = awx.folder / "inventory.yml"
    closed = [{"name": "leap", "rule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "start": "03:00", "duration": "1h"}]
    variables = {
        **{name: value for name, value in awx.variables.items() if name != "awx_user_name"},
        "ansible_connection": "local",
        "ansible_pipelining": True,
        "saasops_approval": {"verbs": ["backup"]},
    }

    def write(**more: object) -> None:
        hosts = {"all": {"hosts": {"ci": {}}, "vars": {**variables, **more}}}
        inventory.write_text(yaml.safe_dump(hosts), encoding="utf-8")

    def job(step: str, user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**awx.environment, "OUT": str(awx.folder / "out"), "USER": user, "LOGNAME": user}
        return subprocess.run(
            ["sh", str(ROOT / "docs" / "ci" / "run.sh"), step, "backup", str(inventory), *arguments],
            env=environment, cwd=awx.folder, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
            timeout=120, check=False, start_new_session=True,
        )  # fmt: skip

    sets = awx.folder / "store" / "backups"
    write()
    planned = job("plan", "ci")
    assert planned.returncode == 0, planned.stderr
    plan = (awx.folder / "out" / "plan").read_text().strip()
    assert (awx.folder / "store" / "plans" / f"{plan}.json").is_file()
    # nobody has agreed, or only the job itself
    assert job("apply", "ci").returncode == 1
    assert job("approve", "ci").returncode == 0
    assert job("apply", "ci").returncode == 1
    approved = job("approve", "berta")
    assert approved.returncode == 0, approved.stderr
    write(saasops_windows=closed)
    waits = job("apply", "ci")
    assert waits.returncode == 75, waits.stderr
    assert "[window_closed]" in waits.stderr
    assert not sets.exists()
    write(saasops_windows=[{"name": "always", "rule": "FREQ=DAILY", "start": "00:00", "duration": "24h"}])
    applied = job("apply", "ci")
    assert applied.returncode == 0, applied.stderr
    assert len(list(sets.glob("*/manifest.json"))) == 1
    assert job("report", "ci").returncode == 0
    kept = (awx.folder / "out" / "journal.txt").read_text()
    assert "backup" in kept
    assert "ci" in kept
