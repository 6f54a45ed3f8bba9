# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks that ship with the systems: each threshold of a runbook just below and just above, on real rows."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import yaml

from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_select import choose
from ansible_collections.saasops.runbook.plugins.module_utils.execute import health_check
from ansible_collections.saasops.runbook.plugins.module_utils.execute.health_checks import read_checks
from ansible_collections.saasops.runbook.tests.lab import prometheus, upkeep
from ansible_collections.saasops.runbook.tests.lab.acts import connection, context
from ansible_collections.saasops.runbook.tests.lab.health import checks_of, says, site, sleeps
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

INVENTORIES = Path(__file__).resolve().parents[2] / "inventories"
NOON = 1795435200.0
WORKFLOW = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}."Campaign" (
  id text, name text, probability int, status text, "approvalRequestId" text, "reservationId" text
);
CREATE TABLE {schema}."CampaignApproval" (
  id text, "campaignId" text, status text, "createdAt" timestamp(3) DEFAULT (now() AT TIME ZONE 'UTC')
);
CREATE TABLE {schema}."InventoryReservation" (id text, "campaignId" text);
CREATE TABLE {schema}."Order" (id text, "campaignId" text);
"""
JOBS = """
CREATE TABLE content_jobs (
  job_id serial, status text, last_error text, retry_count int, idempotency_key text,
  created_at timestamptz DEFAULT now()
);
CREATE TABLE job_runs (
  status text, execution_time timestamptz DEFAULT now(), started_at timestamptz, completed_at timestamptz
);
"""


def shipped(system: str, **places: str) -> dict[str, dict[str, object]]:
    """The checks of a system's inventory by name, with its addresses replaced."""
    text = (INVENTORIES / system / "group_vars" / "all" / "health.yml").read_text(encoding="utf-8")
    for name, place in places.items():
        text = text.replace("{{ " + name + " }}", place)
    found = cast("dict[str, list[dict[str, object]]]", yaml.safe_load(text))
    return {str(item["name"]): item for item in found["saasops_checks"]}


@pytest.mark.parametrize("system", ["podcastflow", "content_pipeline", "podcast_analytics"])
def test_every_shipped_check_can_be_read_and_every_set_names_checks_that_are_there(system: str) -> None:
    places = dict.fromkeys(("saasops_application_url", "saasops_prometheus_url"), "http://127.0.0.1")
    checks = list(shipped(system, **places).values())
    text = (INVENTORIES / system / "group_vars" / "all" / "health.yml").read_text(encoding="utf-8")
    sets = cast("dict[str, dict[str, list[str]]]", yaml.safe_load(text))["saasops_check_sets"]
    names = [item.check.name for item in read_checks({"checks": checks}, with_builtin=True)]
    for name in sets:
        assert choose(names, [], name, sets)


def outcome(
    check: Mapping[str, object], server: Server | None = None, at: float = NOON, **params: object
) -> dict[str, object]:
    given: dict[str, object] = {"system": "lab", "checks": [check], "builtin": False, **params}
    if server is not None:
        given["connection"] = connection(server)
    return checks_of(health_check.execute(given, replace(context(), now=at)))[str(check["name"])]


_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def workflow_template(server15: Server) -> Iterator[str]:
    server15.createdb("health_workflow")
    for schema in ("org_first", "org_second", "org_third"):
        server15.psql(WORKFLOW.format(schema=schema), "health_workflow")
    yield "health_workflow"
    server15.dropdb("health_workflow")


@pytest.fixture
def workflow(server15: Server, workflow_template: str) -> Iterator[str]:
    """PodcastFlow's tables in three tenants' schemas, empty."""
    name = f"health_workflow_{next(_numbers)}"
    server15.createdb(name, template=workflow_template)
    yield name
    server15.dropdb(name)


def podcastflow(name: str, server: Server, database: str, sql: str) -> dict[str, object]:
    server.psql(sql, database)
    return outcome(shipped("podcastflow")[name], server, database=database, tenant_schemas=["org_*"])


@pytest.mark.parametrize(
    ("probability", "request_id", "level"), [(89, "NULL", "ok"), (90, "'a'", "ok"), (90, "NULL", "warning")]
)
def test_a_campaign_at_90_without_a_request_is_found_in_any_tenant(
    server15: Server, workflow: str, probability: int, request_id: str, level: str
) -> None:
    row = f"INSERT INTO org_third.\"Campaign\" VALUES ('c1', 'Spring', {probability}, 'open', {request_id}, NULL)"
    found = podcastflow("campaigns_without_approval", server15, workflow, row)
    assert (found["level"], found["scopes"]) == (level, 3)
    assert (found["scope"] == "org_third") is (level == "warning")


@pytest.mark.parametrize(("waiting", "level"), [(10, "ok"), (11, "warning"), (20, "warning"), (21, "critical")])
def test_pending_approvals_above_10_and_20(server15: Server, workflow: str, waiting: int, level: str) -> None:
    rows = f"""INSERT INTO org_second."Campaign" VALUES ('c', 'Spring', 90, 'open', 'a', NULL);
    INSERT INTO org_second."CampaignApproval"
    SELECT 'a' || n, 'c', 'pending', now() AT TIME ZONE 'UTC' - n * interval '1 hour'
      FROM generate_series(1, {waiting}) n;
    INSERT INTO org_first."CampaignApproval" SELECT 'x' || n, 'c', 'approved' FROM generate_series(1, 30) n"""
    found = podcastflow("pending_approvals", server15, workflow, rows)
    assert (found["level"], found["value"]) == (level, waiting if level != "ok" else found["value"])
    if level != "ok":
        oldest = f"id=a{waiting} campaign=Spring age="
        assert any(oldest in str(line) for line in cast("list[str]", found["detail"]))
        assert cast("list[dict[str, object]]", found["remedies"])[0]["variables"] == {
            "fix": "decide_approval",
            "tenant": "org_second",
            "id": f"a{waiting}",
            "decision": "rejected",
            "reason": "<why>",
        }


def test_a_reservation_that_is_still_live_is_no_orphan(server15: Server, workflow: str) -> None:
    rows = """INSERT INTO org_first."Campaign" VALUES
      ('live', 'x', 90, 'open', 'a', 'r1'), ('won', 'x', 100, 'won', 'a', 'r2'), ('named', 'x', 60, 'open', 'a', 'r3'),
      ('again', 'x', 60, 'open', 'a', NULL);
    INSERT INTO org_first."CampaignApproval" VALUES
      ('1', 'live', 'rejected', '2026-01-01'), ('2', 'named', 'rejected', '2026-01-01'),
      ('3', 'again', 'rejected', '2026-01-01'), ('4', 'again', 'pending', '2026-01-02');
    INSERT INTO org_first."InventoryReservation" VALUES
      ('r1', 'live'), ('r2', 'won'), ('r3', 'named'), ('r4', 'again'), ('r5', 'never asked')"""
    assert podcastflow("unreleased_reservations", server15, workflow, rows)["level"] == "ok"
    fell = """INSERT INTO org_third."Campaign" VALUES ('fell', 'x', 60, 'open', NULL, NULL);
    INSERT INTO org_third."CampaignApproval" VALUES ('5', 'fell', 'rejected', '2026-01-01');
    INSERT INTO org_third."InventoryReservation" VALUES ('r6', 'fell')"""
    found = podcastflow("unreleased_reservations", server15, workflow, fell)
    assert (found["level"], found["value"], found["scope"]) == ("warning", 1, "org_third")
    assert cast("list[dict[str, object]]", found["remedies"])[0]["variables"] == {
        "fix": "release_reservation",
        "tenant": "org_third",
        "id": "r6",
        "reason": "<why>",
    }


def test_a_campaign_won_without_an_order_is_shown(server15: Server, workflow: str) -> None:
    rows = """INSERT INTO org_first."Campaign" VALUES
      ('a', 'x', 100, 'won'), ('b', 'x', 99, 'won'), ('c', 'x', 100, 'lost');
    INSERT INTO org_first."Order" VALUES ('o', 'a')"""
    assert podcastflow("won_without_order", server15, workflow, rows)["level"] == "ok"
    found = podcastflow("won_without_order", server15, workflow, 'DELETE FROM org_first."Order"')
    assert (found["level"], found["value"], found["scope"]) == ("warning", 1, "org_first")


@pytest.mark.parametrize(
    ("approved", "of", "level"),
    [(90, 100, "ok"), (89, 100, "warning"), (75, 100, "warning"), (74, 100, "critical"), (0, 4, "inconclusive")],
)
def test_the_approval_rate_below_90_and_75(server15: Server, workflow: str, approved: int, of: int, level: str) -> None:
    rows = f"""INSERT INTO org_second."CampaignApproval"
    SELECT n::text, 'c', CASE WHEN n <= {approved} THEN 'approved' ELSE 'rejected' END FROM generate_series(1, {of}) n;
    INSERT INTO org_second."CampaignApproval"
    SELECT 'o' || n, 'c', 'rejected', now() AT TIME ZONE 'UTC' - interval '169 hours' FROM generate_series(1, 99) n"""
    assert podcastflow("approval_rate", server15, workflow, rows)["level"] == level


def test_the_volume_of_a_day_is_counted(server15: Server, workflow: str) -> None:
    rows = """INSERT INTO org_first."CampaignApproval" VALUES
      ('1', 'c', 'pending', now() AT TIME ZONE 'UTC' - interval '23 hours'),
      ('2', 'c', 'pending', now() AT TIME ZONE 'UTC' - interval '25 hours')"""
    found = podcastflow("daily_volume", server15, workflow, rows)
    assert (found["level"], found["value"], found["scopes"]) == ("ok", 1, 3)


def endpoint(name: str, url: str, **changes: object) -> dict[str, object]:
    check = shipped("podcastflow", saasops_application_url=url)[name]
    http = cast("dict[str, object]", check["http"])
    return outcome({**check, **changes, "http": {**http, **cast("dict[str, object]", changes.get("http", {}))}})


def test_the_workflow_endpoint_is_critical_when_it_fails_or_is_gone(server15: Server) -> None:
    with site(**{"api/workflow/health": says(200, "{}")}) as web:
        assert endpoint("workflow_endpoint", web.url)["level"] == "ok"
        gone = web.url
    with site(**{"api/workflow/health": says(500, "{}")}) as web:
        assert endpoint("workflow_endpoint", web.url)["level"] == "critical"
    assert endpoint("workflow_endpoint", gone)["level"] == "critical"
    answers = shipped("podcastflow")["database_answers"]
    assert outcome(answers, server15, database="postgres")["level"] == "ok"


@pytest.mark.parametrize(
    ("rate", "level"), [(1.0, "ok"), (1.01, "warning"), (5.0, "warning"), (5.01, "critical"), (None, "inconclusive")]
)
def test_workflow_errors_above_1_and_5_percent(rate: float | None, level: str) -> None:
    body = json.dumps({"checks": {"workflows": {"metrics": {"errorRate": rate}}}})
    with site(**{"api/workflow/health": says(200, body)}) as web:
        assert endpoint("workflow_errors", web.url)["level"] == level


@pytest.mark.parametrize(("seconds", "level"), [(0, "ok"), (2.05, "warning"), (5.05, "critical")])
def test_responses_above_2_and_5_seconds(seconds: float, level: str) -> None:
    once: dict[str, object] = {"http": {"samples": 1}, "minimum_samples": 1}
    with site(**{"api/workflow/health": sleeps(seconds)}) as web:
        assert endpoint("workflow_response", web.url, **once)["level"] == level


@pytest.mark.parametrize(
    ("available", "level"), [(200, "ok"), (199, "warning"), (50, "warning"), (49, "critical"), (None, "inconclusive")]
)
def test_memory_above_80_and_95_percent(tmp_path: Path, available: int | None, level: str) -> None:
    check = shipped("podcastflow")["memory"]
    argv = cast("dict[str, list[str]]", check["command"])["argv"]
    assert outcome(check)["value"] is not None
    text = "" if available is None else f"MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n"
    (tmp_path / "meminfo").write_text(text)
    command = {"argv": [*argv[:-1], str(tmp_path / "meminfo")], "value": "number"}
    assert outcome({**check, "command": command})["level"] == level


@pytest.fixture
def jobs(server15: Server) -> Iterator[str]:
    """Content Pipeline's tables, empty."""
    name = f"health_jobs_{next(_numbers)}"
    server15.createdb(name)
    server15.psql(JOBS, name)
    yield name
    server15.dropdb(name)


def pipeline(name: str, server: Server, database: str, sql: str) -> dict[str, object]:
    server.psql(sql, database)
    return outcome(shipped("content_pipeline")[name], server, database=database)


def runs(failed: int, of: int, since: str = "1 hour") -> str:
    return f"""INSERT INTO job_runs
    SELECT CASE WHEN n <= {failed} THEN 'error' ELSE 'completed' END, now() - interval '{since}',
           now() - interval '2 hours', now() - interval '2 hours' + interval '1 second'
      FROM generate_series(1, {of}) n;"""


@pytest.mark.parametrize(
    ("failed", "of", "level"),
    [
        (10, 100, "ok"),
        (11, 100, "warning"),
        (20, 100, "warning"),
        (21, 100, "critical"),
        (1, 9, "inconclusive"),
        (0, 0, "inconclusive"),
    ],
)
def test_a_failure_rate_above_10_and_20_percent(server15: Server, jobs: str, failed: int, of: int, level: str) -> None:
    errors = "INSERT INTO content_jobs (status, last_error) SELECT 'error', 'OpenAI: 429' FROM generate_series(1, 3);"
    found = pipeline("failure_rate", server15, jobs, errors + runs(failed, of) + runs(99, 99, "25 hours"))
    assert found["level"] == level
    assert "3 x OpenAI: 429" in str(found["detail"])


@pytest.mark.parametrize(("failed", "level"), [(19, "ok"), (20, "warning")])
def test_a_day_whose_runs_do_not_succeed_in_more_than_80_percent(
    server15: Server, jobs: str, failed: int, level: str
) -> None:
    found = pipeline("success_rate", server15, jobs, runs(0, 100, "1 hour") + runs(failed, 100, "72 hours"))
    assert (found["level"], found["scopes"]) == (level, 2)


@pytest.mark.parametrize(("seconds", "level"), [(1.99, "ok"), (2, "warning")])
def test_a_mean_processing_time_of_2_seconds(server15: Server, jobs: str, seconds: float, level: str) -> None:
    rows = f"""INSERT INTO job_runs
    SELECT 'completed', now() - interval '1 day', now(), now() + interval '{seconds} seconds'
      FROM generate_series(1, 10)"""
    assert pipeline("processing_time", server15, jobs, rows)["level"] == level


def test_errors_are_grouped_and_timeouts_and_duplicates_are_found(server15: Server, jobs: str) -> None:
    rows = """INSERT INTO content_jobs (status, last_error, idempotency_key, created_at) VALUES
      ('error', 'OpenAI: 429', 'a', now()), ('error', 'OpenAI: 429', 'b', now()), ('error', NULL, NULL, now()),
      ('done', NULL, NULL, now()), ('error', 'old one', 'c', now() - interval '25 hours')"""
    found = pipeline("failed_jobs", server15, jobs, rows)
    assert (found["value"], found["detail"]) == (
        2,
        ["last_error=OpenAI: 429 jobs=2", "last_error=no error noted jobs=1"],
    )
    assert pipeline("duplicate_content", server15, jobs, "SELECT 1")["level"] == "ok"
    assert pipeline("statement_timeouts", server15, jobs, "SELECT 1")["level"] == "ok"
    again = """INSERT INTO content_jobs (status, last_error, idempotency_key)
    VALUES ('error', 'canceling statement due to statement timeout', 'a')"""
    assert pipeline("duplicate_content", server15, jobs, again)["level"] == "warning"
    assert pipeline("statement_timeouts", server15, jobs, "SELECT 1")["level"] == "warning"


@pytest.mark.parametrize(
    ("name", "seconds", "level"),
    [
        ("read_timeout", "10s", "ok"),
        ("read_timeout", "10001ms", "warning"),
        ("read_timeout", "", "warning"),
        ("write_timeout", "30s", "ok"),
        ("write_timeout", "30001ms", "warning"),
    ],
)
def test_statement_timeouts_of_10_and_30_seconds(server15: Server, name: str, seconds: str, level: str) -> None:
    role = "app_read" if name == "read_timeout" else "app_write"
    setting = f"ALTER ROLE {role} SET statement_timeout = '{seconds}'" if seconds else "SELECT 1"
    server15.psql(f"CREATE ROLE {role} LOGIN; {setting}", "postgres")
    try:
        check = shipped("podcast_analytics")[name]
        sql = cast("dict[str, str]", check["sql"])
        # other tests leave roles of such names on the same server
        own = {**check, "sql": {**sql, "query": f"{sql['query']} AND r.rolname LIKE 'app%'"}}
        found = outcome(own, server15, database="postgres")
    finally:
        server15.psql(f"DROP ROLE {role}", "postgres")
    assert (found["level"], found["scope"]) == (level, role)


def test_statements_of_more_than_a_second_are_shown_with_their_pid(server15: Server) -> None:
    check = shipped("podcast_analytics")["slow_queries"]
    assert outcome(check, server15, database="template1")["level"] == "ok"
    sleeper = threading.Thread(target=server15.psql, args=("SELECT pg_sleep(8) /* lab */", "postgres"))
    sleeper.start()
    upkeep.wait_until(
        server15,
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(8)%' AND state = 'active'"
        " AND now() - query_start > interval '1.05 s'",
        seconds=30,
    )
    found = outcome(check, server15, database="template1")
    sleeper.join()
    assert (found["level"], found["value"]) == ("warning", 1)
    (line,) = cast("list[str]", found["detail"])
    assert "/* lab */" in line
    variables = cast("list[dict[str, dict[str, str]]]", found["remedies"])[0]["variables"]
    assert f"pid={variables['pid']} " in line


@pytest.fixture(scope="module")
def metrics() -> Iterator[prometheus.Server]:
    with prometheus.running() as server:
        yield server


def expose(server: prometheus.Server, errors: int, active: int, slow: str, done: str) -> None:
    """Counters that began at 0: errors of 1000 requests, latencies (how many up to 1 s, 2 s, 4 s)."""
    lines = [f"api_errors_total {errors}", "api_requests_total 1000", f"db_connections_active {active}"]
    lines += ["db_connections_max 100", f'lab_stage{{n="{done}"}} 1']
    for name, counts in (("fast", "96 100 100"), ("slow", slow)):
        for limit, count in zip(("1", "2", "4", "+Inf"), (counts + " " + counts.split()[-1]).split()):
            lines.append(f'api_request_duration_seconds_bucket{{endpoint="{name}",le="{limit}"}} {count}')
    server.expose("\n".join(lines), f'lab_stage{{n="{done}"}}')


def test_latency_errors_and_the_pool_by_prometheus(metrics: prometheus.Server, tmp_path: Path) -> None:
    zero = [line.rpartition(" ")[0] + " 0" for line in ("api_errors_total 0", "api_requests_total 0")]
    zero += [
        f'api_request_duration_seconds_bucket{{endpoint="{name}",le="{limit}"}} 0'
        for name in ("fast", "slow")
        for limit in ("1", "2", "4", "+Inf")
    ]
    metrics.expose("\n".join(zero), "api_requests_total")
    checks = shipped("podcast_analytics", saasops_prometheus_url=metrics.url)
    store = {"path": str(tmp_path), "create": True}

    def levels(at: float) -> list[object]:
        names = ("slow_endpoints", "error_rate", "pool")
        return [outcome(checks[name], at=at, store=store)["level"] for name in names]

    time.sleep(0.6)
    expose(metrics, errors=9, active=80, slow="96 100 100", done="below")
    assert levels(NOON) == ["ok", "ok", "ok"]
    expose(metrics, errors=11, active=81, slow="94000 100000 100000", done="above")
    assert levels(NOON + 300) == ["warning", "warning", "warning"]
    expose(metrics, errors=51, active=81, slow="94000 9400000 10000000", done="far")
    assert levels(NOON + 600) == ["warning", "warning", "warning"]
    assert levels(NOON + 900) == ["warning", "critical", "warning"]
    assert levels(NOON + 1200) == ["critical", "critical", "warning"]
    found = outcome(checks["slow_endpoints"], at=NOON + 1500, store=store)
    assert found["scope"] == '{endpoint="slow"}'
