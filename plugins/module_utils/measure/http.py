# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source http: a status, a value out of a JSON body, or a percentile of latencies."""

from __future__ import annotations

import json
import math
import re

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.measure.gather import Group
from ansible_collections.saasops.runbook.plugins.module_utils.measure.http_client import (
    Answer,
    Request,
    read_request,
    send,
)
from ansible_collections.saasops.runbook.plugins.module_utils.measure.one import alone
from ansible_collections.saasops.runbook.plugins.module_utils.measure.options import Options, check_path, look_up

MOST_SAMPLES = 100
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d)?)\Z")


def open_http(check: Check, options: Options) -> Group:
    """The check as a group of its own. Raises OpsError bad_check."""
    request, expression, latency = read_request(options, options.text("url")), options.text("json"), _share(options)
    if expression:
        check_path(options, expression)
    if expression and latency is not None:
        raise options.refuse("it asks for json and latency.", "Make two checks of it.")
    samples = options.number("samples", 5 if latency is not None else 1)
    if not 1 <= samples <= MOST_SAMPLES:
        raise options.refuse(f"samples is {samples}.", f"Write 1 to {MOST_SAMPLES}.")
    accepted = [int(text) for text in options.texts("status")]
    if latency is not None:
        times = options.turned("s", check.unit)
        limit = options.timeout * samples
        return alone(check, limit, lambda: [_latency(request, accepted, samples, latency, times)])
    if expression:
        return alone(check, options.timeout, lambda: [_value(request, accepted, expression)])
    return alone(check, options.timeout, lambda: [_status(request)])


def _share(options: Options) -> float | None:
    """0.95 for p95, 1 for max."""
    text = options.text("latency")
    if not text or text == "max":
        return 1.0 if text else None
    found = _PERCENTILE.match(text)
    if not found:
        raise options.refuse(f"latency is {text!r}.", "Write a percentile such as p95, or max.")
    return float(found.group(1)) / 100


def percentile(values: list[float], share: float) -> float:
    """The nearest rank: the smallest value that at least this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _fits(answer: Answer, accepted: list[int]) -> bool:
    return answer.status in accepted if accepted else 200 <= answer.status < 300


def _said(answer: Answer) -> tuple[str, ...]:
    text = answer.body[:300].decode("utf-8", "replace").strip()
    return (text,) if text else ()


def _down(error: OpsError) -> Measurement:
    # a wrong certificate file of ours says nothing about the service
    down = error.code in ("http_unreachable", "http_timeout", "http_garbled")
    return Measurement(missing=f"{error.cause.rstrip('.')} [{error.code}]", down=down)


def _status(request: Request) -> Measurement:
    try:
        answer = send(request)
    except OpsError as error:
        return _down(error)
    return Measurement(answer.status, detail=() if answer.status < 400 else _said(answer))


def _value(request: Request, accepted: list[int], expression: str) -> Measurement:
    try:
        answer = send(request)
    except OpsError as error:
        return _down(error)
    if not _fits(answer, accepted):
        return Measurement(missing=f"it answers with status {answer.status}", down=True, detail=_said(answer))
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return Measurement(missing="its answer is no JSON", detail=_said(answer))
    return look_up(document, expression)


def _latency(request: Request, accepted: list[int], samples: int, share: float, times: float) -> Measurement:
    taken: list[float] = []
    for _number in range(samples):
        try:
            answer = send(request)
        except OpsError as error:
            return _down(error)
        if not _fits(answer, accepted):
            return Measurement(missing=f"it answers with status {answer.status}", down=True, detail=_said(answer))
        taken.append(answer.seconds * times)
    spread = f"{samples} requests: fastest {min(taken):.4g}, slowest {max(taken):.4g}"
    return Measurement(percentile(taken, share), samples, (spread,))
