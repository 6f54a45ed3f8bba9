# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in checks on a lab server, as Python: what they measured and what it came to."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Measurement, Outcome, judge
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_checks import PG_CHECKS
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import Expected, PgCheck, Survey
from ansible_collections.saasops.runbook.plugins.module_utils.execute.pg_survey import Limits, read_survey
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.tests.lab import acts, postgres, processes

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


@contextlib.contextmanager
def standby(primary: postgres.Server, slot: str = "", name: str = "standby") -> Iterator[postgres.Server]:
    """A streaming standby of a server, on 127.0.0.1, with a replication slot when one is named."""
    copy = postgres.Server(primary.version, postgres.Options())
    try:
        owner = processes.unprivileged()
        for path in sorted(copy.data.rglob("*"), reverse=True):
            path.unlink() if not path.is_dir() or path.is_symlink() else path.rmdir()
        argv = [str(primary.bin / "pg_basebackup"), "-D", str(copy.data), "-R", "-c", "fast", "-X", "stream"]
        argv += ["-C", "-S", slot] if slot else []
        done = subprocess.run(
            [*argv, "-d", f"{primary.dsn('replication')} application_name={name}"],
            env=primary.environment(),
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        subprocess.run(["chown", "-R", f"{owner.pw_uid}:{owner.pw_gid}", str(copy.data)], check=True)
        conninfo = f"{primary.dsn('postgres')} application_name={name}"
        copy.configure({"port": str(copy.port), "primary_conninfo": conninfo, "hot_standby_feedback": "off"})
        copy.configure({}, unix_socket_directories=str(copy.socket_dir))
        copy.password = primary.password
        copy.start()
        yield copy
    finally:
        copy.remove()
