# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in checks on a lab server, as Python: what they measured and what it came to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Measurement, Outcome, judge
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_checks import PG_CHECKS
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import Expected, PgCheck, Survey
from ansible_collections.saasops.runbook.plugins.module_utils.execute.pg_survey import Limits, read_survey
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.tests.lab import acts, postgres

# small enough that a test's tables count
SMALL = Limits(least_bytes=8192, least_dead=100, least_calls=1)
BY_NAME: Mapping[str, PgCheck] = {item.check.name: item for item in PG_CHECKS}


def look(
    server: postgres.Server,
    database: str = "postgres",
    *,
    limits: Limits = SMALL,
    expected: Expected | None = None,
    others: Sequence[str] = (),
    **login: object,
) -> Survey:
    """Read everything, as a login role (user=, password=; the superuser by default)."""
    target = Target.from_params(acts.connection(server, **login))
    with contextlib.closing(target.session(database)) as session:
        return read_survey(session, PG_CHECKS, limits, expected or Expected(), target=target, others=others)


def measured(survey: Survey, name: str) -> dict[str, Measurement]:
    """The measurements of one check by their scope."""
    return {item.scope: item for item in BY_NAME[name].measure(survey)}


def outcome(survey: Survey, name: str, **thresholds: str) -> Outcome:
    """What a check came to, with other thresholds if given (warning=, critical=)."""
    item = BY_NAME[name]
    check = replace(item.check, **thresholds)  # type: ignore[arg-type]
    return judge(check, item.measure(survey), None, time.time())


def level(survey: Survey, name: str, **thresholds: str) -> str:
    """ok, warning, critical or inconclusive."""
    return outcome(survey, name, **thresholds).level.value


def until(question: object, seconds: float = 20.0) -> bool:
    """Ask (a callable) every 50 ms until it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if question():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def sessions(server: postgres.Server, count: int, **login: str) -> Iterator[list[object]]:
    """So many connections of a role (user=, password=, dbname=), idle."""
    opened: list[object] = []
    try:
        for _number in range(count):
            opened.append(server.connect(**login))
        yield opened
    finally:
        for one in opened:
            one.close()  # type: ignore[attr-defined]
