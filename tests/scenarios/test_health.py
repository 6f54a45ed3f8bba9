# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs health and checks as an operator runs them: tables, commands, levels, metrics, several hosts."""

from __future__ import annotations

import gzip
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import Remedy, command
from ansible_collections.saasops.runbook.tests.lab.acts import connection
from ansible_collections.saasops.runbook.tests.lab.health import says, site
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play, start_file
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

WAITING = {
    "name": "waiting",
    "sql": {"query": "SELECT id FROM {schema}.jobs WHERE waits", "each_tenant": True, "count": True},
    "unit": "jobs",
    "warning": "> 0",
    "critical": "> 1",
    "remedy": {"verb": "repair", "variables": {"fix": "job", "tenant": "{schema}", "id": "{id}"}, "why": "One waits."},
}


@pytest.fixture(scope="module")
def tenants(server15: Server) -> Iterator[str]:
    """Two tenants' jobs; the second tenant has a name that a shell and a template would take for something else."""
    server15.createdb("health_scenario")
    for schema in ("org_a", '"org_b$(id) {{ 1 }}"'):
        server15.psql(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.jobs (id int, waits bool)", "health_scenario")
    yield "health_scenario"
    server15.dropdb("health_scenario")


def facts(server: Server, database: str, folder: Path, checks: list[Mapping[str, object]]) -> dict[str, object]:
    return {
        "saasops_system": "lab",
        "saasops_database": database,
        "saasops_connection": connection(server),
        "saasops_store": {"path": str(folder / "store"), "create": True},
        "saasops_tenant_schemas": ["org_*"],
        "saasops_metrics_folder": str(folder),
        "saasops_check_sets": {"daily": ["wait*"], "predeploy": ["site"]},
        "saasops_checks": checks,
        "health_builtin": False,
    }


def level(run: Run, check: str) -> str:
    """The level in the table's line of a check."""
    for line in run.output.splitlines():
        words = line.strip().strip('",').split()
        if len(words) > 1 and words[1] == check:
            return words[0]
    raise AssertionError(run.output)


@pytest.mark.essential
def test_health_shows_what_is_wrong_and_what_helps_and_is_well_again(
    server15: Server, tenants: str, tmp_path: Path
) -> None:
    with site(health=says(200, '{"status": "ok"}')) as web:
        web_check = {"name": "site", "http": {"url": f"{web.url}/health", "json": "status"}, "critical": "!= 'ok'"}
        hosts = inventory(tmp_path, facts(server15, tenants, tmp_path, [web_check, WAITING]))
        well = play("health", hosts)
        assert (well.code, well.changed) == (0, 0), well.output
        assert (level(well, "site"), level(well, "waiting")) == ("OK", "OK")
        assert "demo is ok: 2 ok of 2" in well.output

        server15.psql('INSERT INTO "org_b$(id) {{ 1 }}".jobs VALUES (7, true), (8, true)', tenants)
        ill = play("health", hosts)
        assert ill.code == 2
        assert (level(ill, "site"), level(ill, "waiting")) == ("OK", "CRITICAL")
        assert ill.output.index("waiting") < ill.output.index("site ")
        assert "[health_critical]" in ill.output
        (line,) = [line for line in ill.output.splitlines() if "ansible-playbook saasops.runbook.repair" in line]
        words = shlex.split(json.loads(line.strip().rstrip(",")))
        assert words[:4] == ["ansible-playbook", "saasops.runbook.repair", "-i", str(hosts)]
        assert words[4:] == ["-e", "fix=job", "-e", '{"tenant": !unsafe "org_b$(id) {{ 1 }}"}', "-e", "id=7"]

        told = play("health", hosts, "-e", "fail_on=never", "-e", "only=wait*,site")
        assert told.code == 0, told.output
        metrics = (tmp_path / "saasops_health_demo_all.prom").read_text()
        assert 'saasops_health_status{system="lab",host="demo",set="all",check="waiting",source="sql"} 2.000' in metrics
        history = json.loads(gzip.decompress(next((tmp_path / "store/health/demo/all").iterdir()).read_bytes()))
        assert [run[2]["waiting"][0] for run in history["runs"]] == ["ok", "critical"]
        server15.psql('TRUNCATE "org_b$(id) {{ 1 }}".jobs', tenants)


def test_the_template_in_a_command_stays_text_for_ansible(tmp_path: Path) -> None:
    file = tmp_path / "show.yml"
    show = {"name": "Show it", "ansible.builtin.debug": {"msg": "tenant is {{ tenant }}."}}
    file.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [show]}]))
    words = shlex.split(command(Remedy("x", {"tenant": "{{ lookup('pipe', 'echo pwned') }} $(id)"}), "i"))
    with start_file(file, inventory(tmp_path, {}), *words[4:]) as process:
        output, _none = process.communicate(timeout=60)
    assert "tenant is {{ lookup('pipe', 'echo pwned') }} $(id)." in output


def test_checks_needs_a_set_and_a_gate_stays_shut_when_nobody_could_look(
    server15: Server, tenants: str, tmp_path: Path
) -> None:
    web_check = {"name": "site", "http": {"url": "http://127.0.0.1:9/", "json": "status"}, "critical": "!= 'ok'"}
    hosts = inventory(tmp_path, facts(server15, tenants, tmp_path, [web_check, WAITING]))
    gate = play("checks", hosts, "-e", "set=predeploy")
    assert gate.code == 2
    assert "[health_inconclusive]" in gate.output
    nothing = play("checks", hosts)
    assert nothing.code == 2
    assert "sets: daily, predeploy" in nothing.output
    blind = play("health", hosts, "-e", "only=site")
    assert blind.code == 2
    assert "[health_blind]" in blind.output


def test_every_host_has_its_table_and_one_summary_names_them_all(tmp_path: Path) -> None:
    def host(argv: list[str], **more: object) -> dict[str, object]:
        return {"saasops_checks": [{"name": "works", "command": {"argv": argv}, **more}]}

    hosts = inventory(
        tmp_path,
        {"saasops_system": "lab"},
        {"one": host(["/bin/true"]), "two": host(["/bin/false"]), "three": host(["/bin/true"], critical="> x")},
    )
    run = play("health", hosts)
    assert run.code == 2
    for line in ("one: one is ok: 1 ok of 1", "two: two is critical: 1 critical of 1", "three: [bad_threshold]"):
        assert line in run.output
    assert run.output.count("failed=1") == 2


def test_secrets_of_checks_ask_for_pipelining_and_are_never_shown(tmp_path: Path) -> None:
    with site(a=says(500, "no")) as web:
        check = {"name": "key", "http": {"url": f"{web.url}/a", "api_key": "s3cret-of-the-lab"}}
        hosts = inventory(tmp_path, {"saasops_system": "lab", "saasops_checks": [check]})
        shown = play("health", hosts, "-vvv")
        assert shown.code == 2
        assert "s3cret-of-the-lab" not in shown.output
        assert web.requests[0][1]["X-Api-Key"] == "s3cret-of-the-lab"
        refused = play(
            "health",
            inventory(tmp_path, {"saasops_system": "lab", "saasops_checks": [check], "ansible_pipelining": False}),
        )
    assert "[pipelining_required]" in refused.output
