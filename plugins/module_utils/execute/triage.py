# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first look at a server in trouble: some way in, a few checks, the commands that answer what is wrong.

Reads only, writes nowhere, needs no store. Each step has a bound, and what has not answered by then is inconclusive.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain import ladder, triage
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import (
    Measurement,
    Outcome,
    failed,
    judge,
    worst,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.ladder import Attempt, Ground, Rung
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_checks import PG_CHECKS
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import Survey
from ansible_collections.saasops.runbook.plugins.module_utils.execute.health_builtin import expected
from ansible_collections.saasops.runbook.plugins.module_utils.execute.pg_survey import Limits, Reading
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import Connection
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures.query import OUT_OF_TIME, bounds
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.transport import here
from ansible_collections.saasops.runbook.plugins.module_utils.transport.as_user import AsUser
from ansible_collections.saasops.runbook.plugins.module_utils.transport.local import LocalTransport

CONNECT_SECONDS = 2  # libpq's own bound, and the least that it takes
RUNG_SECONDS = 4.0  # a rung that has not led in by then does not
STATEMENT_SECONDS = 1.5
ASIDE = 1.0  # kept for what is told without a connection
NAME = "saasops-triage"
USUAL_PORT = 5432
# a database that is not there, or whose catalog somebody locked, which keeps everybody out of it
_ELSEWHERE = ("unknown_database", "server_unreachable", "session_timeout")

CHECKS = tuple(item for item in PG_CHECKS if item.check.name in triage.NAMES)
Found = TypeVar("Found")


def bounded(act: Callable[[], Found], seconds: float) -> Found:
    """What act gives within so many seconds. Raises what it raises, or OpsError session_timeout.

    It runs in a thread that is left behind when it does not come back: a C library that waits for a socket cannot be
    interrupted, and the end of the module ends it.
    """
    box: list[Found | BaseException] = []

    def run() -> None:
        try:
            box.append(act())
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            box.append(error)

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    worker.join(max(0.05, seconds))
    if not box:
        raise OpsError(
            "session_timeout", f"no answer within {seconds:.1f} seconds", "See what the server is busy with."
        )
    found = box[0]
    if isinstance(found, BaseException):
        raise found
    return found


class _Way:
    """The ways into one server: tried in order until one leads in."""

    def __init__(self, params: Mapping[str, object], until: float) -> None:
        self._given = cast("dict[str, object]", params["connection"])
        self._rescue = cast("dict[str, object] | None", params.get("rescue_connection"))
        self._database = str(params.get("database") or "")
        self._until = until
        self.attempts: list[Attempt] = []
        self.target: Target | None = None
        self.host = Target.from_params(self._given).connection.host
        self.port = int(str(self._given.get("port") or 5432))
        self.transport = str(self._given.get("transport") or "local")
        local = self.transport == "local"
        self.ground = Ground(
            transport=self.transport,
            host=self.host,
            port=self.port,
            rescue=bool(self._rescue),
            uid=os.geteuid(),
            sockets=here.sockets(self.port) if local else (),
            switcher=here.switcher() if local else "",
        )

    def enter(self) -> Session | None:
        """A session, or None when no rung leads in; attempts tells of each."""
        for rung in ladder.ladder(self.ground):
            if not ladder.worth_trying(rung, self.attempts):
                if rung.closed:
                    self.attempts.append(Attempt(rung))
                continue
            left = self._until - time.monotonic()
            if left <= 0:
                self.attempts.append(Attempt(replace(rung, closed="no time was left")))
                continue
            try:
                session = self._enter(rung, min(RUNG_SECONDS, left))
            except OpsError as error:
                self.attempts.append(Attempt(rung, error.code, error.cause))
                continue
            self.attempts.append(Attempt(rung))
            return session
        return None

    def _enter(self, rung: Rung, seconds: float) -> Session:
        target = self._target(rung)
        maintenance = target.connection.maintenance_database
        # ours may be full, or renamed: the server's own matters need none in particular
        names = [self._database, maintenance] if self._database and rung.kind == ladder.GIVEN else [maintenance]
        end = time.monotonic() + seconds
        for number, name in enumerate(names, 1):
            try:
                left = end - time.monotonic()
                session = bounded(lambda: target.session(name), left)  # noqa: B023 - called before the next one
            except OpsError as error:
                if error.code in _ELSEWHERE and number < len(names):
                    continue
                raise
            self.target = target
            return session
        raise OpsError("unknown_database", "There is no database to connect to.", "Set maintenance_database.")

    def _target(self, rung: Rung) -> Target:
        if rung.kind in (ladder.GIVEN, ladder.RESCUE):
            chosen = self._given if rung.kind == ladder.GIVEN else self._rescue or {}
            return Target.from_params({**chosen, "connect_timeout": CONNECT_SECONDS}, NAME)
        client_bin = str(self._given.get("client_bin") or "")
        if rung.kind == ladder.CONTAINER:
            given = Target.from_params(self._given)
            user = _variable(given, "POSTGRES_USER") or "postgres"
            params = {name: self._given.get(name) for name in ("transport", "container", "container_user", "port")}
            params.update(user=user, client_bin=client_bin, connect_timeout=CONNECT_SECONDS)
            return Target.from_params(params, NAME)
        connection = Connection(
            host=rung.folder,
            port=self.port,
            user=rung.user,
            connect_timeout=CONNECT_SECONDS,
            application_name=NAME,
        )
        transport = AsUser(rung.prefix) if rung.prefix else LocalTransport()
        # psycopg would connect as this process's user
        return Target(connection, transport, "psql" if rung.prefix else "auto", client_bin)


def _variable(target: Target, name: str) -> str:
    """A variable of a container's environment, "" when it has none. Raises OpsError."""
    # what every container with a shell has; the name is ours
    argv = ["sh", "-c", f'printf %s "${name}"']
    asked = bounded(lambda: target.transport.run(argv, timeout=3), 3.0)
    return asked.stdout.decode("utf-8", "replace").strip()


def _survey(session: Session, until: float, options: Mapping[str, object]) -> Survey | OpsError:
    """What can be read until then (monotonic seconds); what did not come is out of time."""
    reading = Reading(expected(options))
    limits = Limits(seconds=STATEMENT_SECONDS, until=until)

    def read() -> Survey:
        bounds(session, STATEMENT_SECONDS)
        return reading.read(session, CHECKS, limits)

    try:
        return bounded(read, until - time.monotonic())
    except OpsError as error:
        with contextlib.suppress(OpsError):
            return reading.survey()
        return error


def _disk(target: Target, folder: str) -> Measurement:
    """The volume of a data directory, where the commands of this target run."""
    if not folder:
        return Measurement(missing="where the data directory is, is not visible: needs GRANT pg_read_all_settings")
    if target.transport.name == "local":
        if not (target.connection.host in ladder.LOOPBACK or target.connection.host.startswith("/")):
            return Measurement(missing=f"the server is on {target.connection.host}, whose disks are not seen from here")
        try:
            return triage.disk_measured(folder, *here.volume(folder))
        except OSError as error:
            return Measurement(missing=f"{folder} cannot be looked at: {error.strerror}")
    done = bounded(lambda: target.transport.run(["df", "-Pk", folder], timeout=3), 3.0)
    found = re.search(rb"\s(\d+)\s+(\d+)\s+(\d+)\s+\d+%", done.stdout)
    if done.code != 0 or not found:
        return Measurement(missing=f"df does not tell of {folder} in the container")
    used, free = int(found.group(2)) * 1024, int(found.group(3)) * 1024
    return triage.disk_measured(folder, free, used + free)


def _disk_outcome(target: Target | None, folder: str) -> Outcome:
    try:
        its = _disk(target, folder) if target else Measurement(missing="nobody could be asked")
    except OpsError as error:
        return failed(triage.DISK, error)
    return judge(triage.DISK, [its], None, 0.0)


def _settled(session: Session) -> str:
    """The data directory, "" when the login role may not know it."""
    try:
        sql = "SELECT coalesce(current_setting('data_directory', true), '')"
        return str(bounded(lambda: session.value(sql), 1.0) or "")
    except OpsError:
        return ""


def _outside(way: _Way, params: Mapping[str, object]) -> list[Outcome]:
    """What can be told of a server that nobody could log in to."""
    folder = str(params.get("data_directory") or "")
    process, seen = None, []
    port = ladder.UNASKED
    target = Target.from_params(cast("dict[str, object]", params["connection"]))
    if way.transport == "local":
        port = here.port_answers(way.host, way.port)
        where = way.host or "127.0.0.1"
        seen.append(f"port {way.port} of {where} is {port}")
        if way.ground.host in ladder.LOOPBACK or way.ground.host.startswith("/"):
            process = here.postmaster(way.port)
            seen.append(process.line if process else f"no server process with port {way.port} is seen on this host")
            # whose the only data directory of the packages is, is clear for the usual port alone
            folders = here.data_folders() if way.port == USUAL_PORT else []
            folder = folder or (process.folder if process else folders[0] if len(folders) == 1 else "")
    else:
        with contextlib.suppress(OpsError):
            folder = folder or _variable(target, "PGDATA")
    state = ladder.state(way.attempts, port, process.state if process else "")
    outcomes = [judge(triage.SERVER, [triage.server_measured(state, seen)], None, 0.0)]
    if folder:
        outcomes.append(_disk_outcome(target, folder))
    else:
        its = Measurement(missing="where the data directory is, is not known: set saasops_data_directory")
        outcomes.append(judge(triage.DISK, [its], None, 0.0))
    return outcomes


def _inside(session: Session, target: Target, params: Mapping[str, object], until: float, now: float) -> list[Outcome]:
    """What the server itself tells."""
    survey = _survey(session, until, params)
    outcomes = [judge(triage.SERVER, [triage.server_measured(ladder.UP, [])], None, now)]
    if isinstance(survey, OpsError):
        answered = survey.code not in (OUT_OF_TIME.code, "session_timeout", "session_ended")
        if not answered:
            stuck = triage.server_measured(ladder.HANGS, [f"it let us in and then: {survey.cause}"])
            outcomes = [judge(triage.SERVER, [stuck], None, now)]
        return [*outcomes, *(failed(item.check, survey) for item in CHECKS)]
    outcomes += [judge(item.check, item.measure(survey), None, now) for item in CHECKS]
    folder = str(params.get("data_directory") or "") or _settled(session)
    return [*outcomes, _disk_outcome(target, folder)]


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_triage_info."""
    began = time.monotonic()
    until = began + float(str(params.get("seconds") or 8))
    way = _Way(params, until - ASIDE)
    session = way.enter()
    if session is None or way.target is None:
        outcomes = _outside(way, params)
    else:
        outcomes = _inside(session, way.target, params, max(until, time.monotonic() + ASIDE), context.now)
        # a session that hangs would hold up its own close
        with contextlib.suppress(OpsError):
            bounded(session.close, 0.5)
    level = worst([item.level for item in outcomes])
    inventory = [str(item) for item in cast(Sequence[object], params.get("inventory") or ())]
    name = str(params.get("system") or params.get("database") or "server")
    lines, commands = triage.render(
        name, level, outcomes, way.attempts, inventory, str(params.get("limit") or ""), time.monotonic() - began
    )
    evidence: dict[str, object] = {
        "level": level.value,
        "connected": next((attempt.rung.kind for attempt in way.attempts if attempt.led_in), ""),
        "tried": [attempt.line for attempt in way.attempts],
        "checks": [item.as_dict() for item in outcomes],
        "commands": commands,
        "lines": lines,
        "seconds": round(time.monotonic() - began, 3),
    }
    return Result(None, False, lines[0], evidence)
