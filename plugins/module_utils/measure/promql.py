# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source promql: an instant query to a Prometheus, or to whatever speaks its API."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.measure.gather import Group
from ansible_collections.saasops.runbook.plugins.module_utils.measure.http_client import read_request, send
from ansible_collections.saasops.runbook.plugins.module_utils.measure.one import alone
from ansible_collections.saasops.runbook.plugins.module_utils.measure.options import Options

MOST_SERIES = 1000
Sample = tuple[str, float]


def open_promql(check: Check, options: Options) -> Group:
    """The check as a group of its own. Raises OpsError bad_check."""
    read_request(options, options.text("url"))
    query, series = options.text("query"), options.text("series")
    max_age = parse_duration(options.text("max_age"), f"check {check.name}: max_age") if options.text("max_age") else 0
    if max_age and not series:
        raise options.refuse("max_age needs the series whose age is meant.", "Name a selector in series.")

    def measure() -> list[Measurement]:
        if max_age:
            stale = _stale(options, series, max_age)
            if stale:
                return [Measurement(missing=stale)]
        samples, told = _ask(options, query)
        if not samples:
            return [Measurement(missing="no series (an empty answer)", detail=told)]
        if len(samples) > MOST_SERIES:
            return [Measurement(missing=f"{len(samples)} series, more than {MOST_SERIES}", detail=told)]
        return [Measurement(value, scope=labels, detail=told) for labels, value in samples]

    # one request for the age, one for the value
    return alone(check, options.timeout * 2, measure)


def _stale(options: Options, series: str, max_age: int) -> str:
    """Why the newest sample is too old, "" when it is not."""
    ages, _told = _ask(options, f"time() - max(timestamp({series}))")
    if not ages:
        return f"no sample of {series} (not scraped, or gone for more than five minutes)"
    age = ages[0][1]
    return f"the newest sample of {series} is {age:.0f} s old, more than {max_age} s" if age > max_age else ""


def _ask(options: Options, query: str) -> tuple[list[Sample], tuple[str, ...]]:
    """Samples with their labels, and the server's warnings. Raises OpsError promql_failed and those of send."""
    limit = f"{max(1, int(options.timeout * 1000))}ms"
    arguments = urllib.parse.urlencode({"query": query, "time": f"{time.time():.3f}", "timeout": limit})
    answer = send(read_request(options, f"{options.text('url').rstrip('/')}/api/v1/query?{arguments}"))
    try:
        document = json.loads(answer.body)
        if document["status"] != "success":
            raise _failed(f"Prometheus refuses the query: {str(document['error'])[:300]}")
        data = document["data"]
        told = tuple(str(item)[:300] for item in document.get("warnings") or [])
        if data["resultType"] == "scalar":
            return [("", float(data["result"][1]))], told
        if data["resultType"] == "vector":
            return [(_labels(item["metric"]), float(item["value"][1])) for item in data["result"]], told
        kind = str(data["resultType"])[:40]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise _failed(f"what answers is no Prometheus (status {answer.status})") from None
    raise _failed(f"the query gives a {kind}, not a scalar or an instant vector")


def _failed(cause: str) -> OpsError:
    return OpsError("promql_failed", f"{cause}.", "Try the query in Prometheus itself.")


def _labels(metric: Mapping[str, object]) -> str:
    """{job="api",pod="a"}; "" without labels."""
    pairs = sorted(cast("Mapping[str, str]", metric).items())
    name = str(metric.get("__name__", ""))
    inner = ",".join(f'{key}="{str(value)[:100]}"' for key, value in pairs if key != "__name__")
    return f"{name}{{{inner}}}" if inner else name
