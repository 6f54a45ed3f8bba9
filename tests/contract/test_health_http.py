# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sources http and promql against real servers: good answers, hanging, refusing, garbled and huge ones."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import prometheus
from ansible_collections.saasops.runbook.tests.lab.certificates import self_signed
from ansible_collections.saasops.runbook.tests.lab.health import (
    Answer,
    checks_of,
    drips,
    measure,
    one,
    says,
    silent,
    site,
    sleeps,
)
from ansible_collections.saasops.runbook.tests.lab.http_proxy import HttpProxy
from ansible_collections.saasops.runbook.tests.lab.postgres import free_port

OK = says(200, '{"status": "ok", "checks": {"queue": [{"depth": 12}], "on": true}}')


@pytest.mark.parametrize(
    ("status", "changes", "level"),
    [
        (200, {}, "ok"),
        (204, {}, "ok"),
        (500, {}, "critical"),
        (302, {}, "critical"),
        (404, {"status": [404]}, "ok"),
        (200, {"status": [404, 410]}, "critical"),
    ],
)
def test_the_status_is_judged(status: int, changes: dict[str, object], level: str) -> None:
    with site(there=says(status, "", Location="/elsewhere")) as web:
        found = one({"http": {"url": f"{web.url}/there", **changes}})
    assert (found["level"], found["value"]) == (level, status)


@pytest.mark.parametrize(
    ("path", "value", "level"),
    [
        ("status", "ok", "ok"),
        ("checks.queue[0].depth", 12, "inconclusive"),
        ("length(checks.queue)", 1, "inconclusive"),
        ("nowhere", None, "inconclusive"),
        ("checks", None, "inconclusive"),
        ("checks.queue", None, "inconclusive"),
        ("abs(status)", None, "inconclusive"),
        ("checks.on", True, "inconclusive"),
    ],
)
def test_a_jmespath_finds_one_value_or_none(path: str, value: object, level: str) -> None:
    with site(health=OK) as web:
        found = one({"http": {"url": f"{web.url}/health", "json": path}, "critical": "!= 'ok'"})
    assert (found["level"], found["value"]) == (level, value)


@pytest.mark.parametrize(
    ("answer", "says_why", "level"),
    [
        (says(200, "<html>"), "no JSON", "inconclusive"),
        (says(200, ""), "no JSON", "inconclusive"),
        (says(200, "[" * 100_000), "no JSON", "inconclusive"),
        (says(500, '{"status": "failing"}'), "status 500", "critical"),
        (says(200, b"\xff\xfe"), "no JSON", "inconclusive"),
        (says(200, "x" * (2 * 1024 * 1024)), "more than 1048576 bytes", "inconclusive"),
        (says(200, "{}", Content_Length="999"), "was cut", "critical"),
        (drips, "does not answer within 1 s", "critical"),
        (sleeps(5), "does not answer within 1 s", "critical"),
    ],
    ids=["html", "empty", "nested", "error", "binary", "huge", "cut", "drips", "late"],
)
def test_what_is_no_answer_says_so_in_time(answer: Answer, says_why: str, level: str) -> None:
    with site(health=answer) as web:
        began = time.monotonic()
        found = one(
            {
                "http": {"url": f"{web.url}/health", "json": "status"},
                "critical": "!= 'ok'",
                "when_down": "critical",
                "timeout": 1,
            }
        )
        taken = time.monotonic() - began
    assert (found["level"], found["value"]) == (level, None)
    assert says_why in str(found["why"])
    assert taken < 4


def test_a_refused_connection_and_a_silent_port_are_down() -> None:
    with silent() as port:
        refused, hanging = (
            one({"http": {"url": f"http://127.0.0.1:{port}/", "json": "a"}, "timeout": 1, "when_down": "critical"})
            for port in (free_port(), port)
        )
    assert (refused["level"], hanging["level"]) == ("critical", "critical")
    assert "refused" in str(refused["why"])
    assert "within 1 s" in str(hanging["why"])
    assert one({"http": {"url": f"http://127.0.0.1:{free_port()}/"}})["level"] == "inconclusive"


def test_a_redirect_is_not_followed_with_our_secrets() -> None:
    with site(to=OK) as other, site(there=says(302, "", Location=f"{other.url}/to")) as web:
        one({"http": {"url": f"{web.url}/there", "api_key": "s3cret"}})
        assert other.requests == []
        found = one({"http": {"url": f"{web.url}/there", "json": "status", "follow_redirects": True}})
    assert found["value"] == "ok"


def test_logins_and_keys_are_sent_and_never_shown() -> None:
    with site(a=says(500, "no"), b=OK, c=OK) as web:
        result = measure(
            {
                "name": "key",
                "http": {"url": f"{web.url}/a?token=inquery", "api_key": "s3cret", "headers": {"X-A": "1"}},
            },
            {"name": "basic", "http": {"url": f"{web.url}/b", "url_username": "u", "url_password": "s3cret"}},
            {"name": "bearer", "http": {"url": f"{web.url}/c", "bearer_token": "s3cret", "json": "status"}},
            {"name": "gone", "http": {"url": f"http://127.0.0.1:{free_port()}/?token=inquery", "api_key": "s3cret"}},
        )
    sent = {line.split()[1].split("?")[0]: headers for line, headers in web.requests}
    assert sent["/a"]["X-Api-Key"] == "s3cret"
    assert sent["/a"]["X-A"] == "1"
    assert sent["/b"]["Authorization"] == "Basic " + base64.b64encode(b"u:s3cret").decode()
    assert sent["/c"]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in str(result.evidence)
    assert "inquery" not in str(result.evidence)


def test_a_latency_is_a_percentile_of_several_requests_in_the_unit_of_the_check() -> None:
    with site(fast=OK, slow=sleeps(0.3)) as web:
        result = measure(
            {
                "name": "fast",
                "http": {"url": f"{web.url}/fast", "latency": "p95"},
                "warning": "> 2 s",
                "critical": "> 5 s",
            },
            {
                "name": "slow",
                "http": {"url": f"{web.url}/slow", "latency": "max", "samples": 2},
                "unit": "ms",
                "warning": "> 0.2 s",
            },
            {
                "name": "few",
                "http": {"url": f"{web.url}/fast", "latency": "p50", "samples": 2},
                "minimum_samples": 5,
                "warning": "> 2 s",
            },
        )
        assert len([line for line, _headers in web.requests if "fast" in line]) == 7
    found = checks_of(result)
    assert (found["fast"]["level"], found["fast"]["unit"]) == ("ok", "s")
    assert found["slow"]["level"] == "warning"
    assert 300 <= float(str(found["slow"]["value"])) < 3000
    assert found["few"]["level"] == "inconclusive"
    assert "only 2 of at least 5" in str(found["few"]["why"])


def test_a_certificate_must_be_trusted_unless_told_otherwise(tmp_path: Path) -> None:
    file = self_signed(tmp_path)
    with site(health=OK) as web, HttpProxy(int(web.url.rpartition(":")[2]), str(file)) as proxy:
        given = {"url": f"{proxy.endpoint}/health", "json": "status"}
        # at the same time, so that one's settings would show in the others
        result = measure(
            {"name": "strange", "http": given, "when_down": "critical"},
            {"name": "trusted", "http": {**given, "ca_path": str(file)}},
            {"name": "any", "http": {**given, "validate_certs": False}},
            {"name": "nofile", "http": {**given, "ca_path": "/nowhere"}},
        )
    found = checks_of(result)
    assert {name: item["level"] for name, item in found.items()} == {
        "strange": "inconclusive",
        "trusted": "ok",
        "any": "ok",
        "nofile": "inconclusive",
    }
    assert "not trusted" in str(found["strange"]["why"])


@pytest.mark.parametrize(
    "http",
    [
        {"url": "ftp://x/"},
        {"url": "http://user:secret@x/"},
        {"url": "http://"},
        {"url": "http://x:99999/"},
        {"url": "http://x/ y"},
        {"url": "http://x/", "json": "a["},
        {"url": "http://x/", "json": "a", "latency": "p95"},
        {"url": "http://x/", "latency": "95"},
        {"url": "http://x/", "latency": "p95", "samples": 0},
        {"url": "http://x/", "latency": "p95", "samples": 101},
        {"url": "http://x/", "headers": {"a": "b\r\nc: d"}},
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_measured(http: dict[str, object], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with pytest.raises(OpsError) as refused:
        measure({"name": "first", "command": {"argv": ["touch", str(trace)]}}, {"name": "x", "http": http})
    assert refused.value.code == "bad_check"
    assert "Check x:" in refused.value.cause
    assert "secret" not in refused.value.message
    assert not trace.exists()


@pytest.mark.parametrize("name", ["Authorization", "cookie", "X-Api-Key", "x-auth-token"])
def test_a_header_that_proves_who_asks_is_refused_because_headers_are_shown(name: str) -> None:
    with pytest.raises(OpsError) as refused:
        measure({"name": "x", "http": {"url": "http://127.0.0.1:9", "headers": {name: "hunter2"}}})
    assert refused.value.code == "bad_check"
    assert "api_key" in refused.value.remedy
    assert "hunter2" not in refused.value.message


def test_many_slow_ones_are_measured_side_by_side() -> None:
    with site(slow=sleeps(2)) as web:
        began = time.monotonic()
        result = measure(*({"name": f"n{number}", "http": {"url": f"{web.url}/slow"}} for number in range(8)))
        assert time.monotonic() - began < 12
    assert result.evidence["level"] == "ok"


@pytest.mark.parametrize(
    ("query", "level", "value", "scopes"),
    [
        ("lab_depth", "critical", 12, 2),
        ("sum(lab_depth)", "critical", 15, 1),
        ("scalar(sum(lab_depth))", "critical", 15, 1),
        ("2", "ok", 2, 1),
        ("lab_nothing", "inconclusive", None, 1),
        ("lab_depth / 0 * 0", "inconclusive", None, 2),
        ("lab_depth[1m]", "inconclusive", None, 1),
        ("lab_depth{", "inconclusive", None, 1),
    ],
)
def test_a_query_is_judged_for_each_of_its_series(
    prometheus_server: prometheus.Server, query: str, level: str, value: object, scopes: int
) -> None:
    prometheus_server.expose('lab_depth{queue="a"} 3\nlab_depth{queue="b"} 12', 'lab_depth{queue="b"}')
    found = one({"promql": {"url": prometheus_server.url, "query": query}, "critical": "> 10"})
    assert (found["level"], found["scopes"]) == (level, scopes)
    if level != "inconclusive":
        assert found["value"] == value
    if query == "lab_nothing":
        assert "no series" in str(found["why"])
    if query == "lab_depth":
        assert (
            found["scope"] == f'lab_depth{{instance="127.0.0.1:{prometheus_server.exporter.port}",job="lab",queue="b"}}'
        )


def test_a_series_that_is_not_scraped_any_more_is_inconclusive() -> None:
    with prometheus.running() as server:
        server.expose("lab_old 1", "lab_old")
        given = {"url": server.url, "query": "vector(1)", "max_age": "2s"}
        fresh = one({"promql": {**given, "series": "lab_old", "max_age": "1m"}, "critical": "> 10"})
        server.exporter.text = "lab_ready 1\n"
        deadline = time.monotonic() + 20
        while server.has("lab_old"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        gone = one({"promql": {**given, "series": "lab_old"}, "critical": "> 10"})
        never = one({"promql": {**given, "series": "lab_never"}, "critical": "> 10"})
    assert (fresh["level"], gone["level"], never["level"]) == ("ok", "inconclusive", "inconclusive")
    assert "no sample of lab_never" in str(never["why"])


@pytest.mark.parametrize(
    "answer",
    [
        says(200, "<html>"),
        says(200, "[]"),
        says(200, '{"status": "success", "data": {}}'),
        says(200, '{"status": "success", "data": {"resultType": "matrix", "result": []}}'),
        says(200, '{"status": "success", "data": {"resultType": "scalar", "result": [1, "many"]}}'),
        says(404, "no"),
    ],
)
def test_what_is_no_prometheus_is_inconclusive(answer: Answer) -> None:
    with site(**{"api/v1/query": answer}) as web:
        found = one({"promql": {"url": web.url, "query": "1"}, "critical": "> 1"})
    assert found["level"] == "inconclusive"
    assert "promql_failed" in str(found["why"])


def test_a_prometheus_that_cannot_be_reached_is_inconclusive() -> None:
    given = {"url": f"http://127.0.0.1:{free_port()}", "query": "1"}
    assert one({"promql": given, "critical": "> 1"})["level"] == "inconclusive"
