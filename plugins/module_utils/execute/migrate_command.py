# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine command: the application's own migrator between two looks at its ledger, within limits."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain import migrate_command as domain
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.guard import refusal
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migrate_command import Command, Login
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migration_files import checksum
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan, preview
from ansible_collections.saasops.runbook.plugins.module_utils.execute import migrate_command_cut as cut
from ansible_collections.saasops.runbook.plugins.module_utils.execute.migrate_place import (
    Place,
    against_backup,
    against_rehearsal,
    tell_switched_off,
)
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import migrator_watch
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import passfile_line
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.migrator_watch import Watch
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render
from ansible_collections.saasops.runbook.plugins.module_utils.store import rehearsals
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_json
from ansible_collections.saasops.runbook.plugins.module_utils.transport import program

_Body = Mapping[str, object]
_LARGEST = 8 << 20
# how much longer than lock_timeout a migrator that obeys it may take to give up
_SLACK_SECONDS = 4.0


@dataclass(frozen=True)
class Outcome:
    """How one run of the command went."""

    code: int
    lines: Sequence[str]
    watch: Watch


def _files(command: Command) -> dict[str, str]:
    """Name -> checksum of what lies in the migrator's folder. Raises OpsError folder_unreadable."""
    if not command.folder:
        return {}
    path = os.path.join(command.chdir, command.folder)
    found = {}
    try:
        for entry in sorted(os.scandir(path), key=lambda one: one.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                # a folder a migration, as Prisma has them
                found[entry.name] = ""
            elif not command.suffixes or entry.name.endswith(tuple(command.suffixes)):
                with open(entry.path, encoding="utf-8", errors="replace") as stream:
                    found[entry.name] = checksum(stream.read(_LARGEST))
    except OSError as error:
        raise OpsError(
            "folder_unreadable",
            f"{path}: {error.strerror}.",
            "Check command.chdir and command.folder.",
        ) from error
    return found


def _login(place: Place) -> Login:
    connection = place.target.connection
    body = cast("_Body", place.params.get("command") or {})
    secrets = cast("_Body", place.params.get("secrets") or {})
    return Login(
        host=str(body.get("host") or connection.host),
        port=int(str(body.get("port") or connection.port)),
        user=str(body.get("login") or connection.user),
        database=place.database,
        password=str(secrets.get("password") or connection.password or ""),
        ssl_mode="" if connection.ssl_mode == "prefer" else connection.ssl_mode,
    )


def _call(
    place: Place, command: Command, watch: Watch, tick: Callable[[], None], say: Callable[[str], None]
) -> Outcome:
    """The command once, with its limits and secrets in its environment. Raises OpsError."""
    limits, login = place.limits, _login(place)
    mark = place.target.connection.application_name
    version, looks = place.reader.version, migrator_watch.looks_for_clients(place.reader)
    options = domain.pgoptions(limits.lock_timeout, limits.limit, limits.lock_limit, version, looks=looks)
    secrets = {str(k): str(v) for k, v in cast("_Body", place.params.get("secrets") or {}).items()}
    own = {name: value for name, value in secrets.items() if name != "password"}
    environment = domain.environment(command, login, options, mark, own)
    hidden = [*secrets.values(), login.password, domain.address(login, options, mark)]
    owner = program.account(command.user)
    with contextlib.ExitStack() as stack:
        if login.password:
            environment["PGPASSFILE"] = stack.enter_context(program.password_file(passfile_line(login.password), owner))
        code, lines = program.run(
            command.argv,
            command.chdir,
            owner,
            environment,
            tick,
            limits.limit,
            lambda line: say(" ".join(domain.tail([line], hidden))),
        )
    return Outcome(code, domain.tail(lines, hidden), watch)


def _run(place: Place, command: Command, before: Sequence[str], pending: Sequence[str] | None) -> Outcome:
    """The command, stopped when it waits too long for a lock or others wait too long behind it.

    Raises OpsError that says what was applied, when it was cut; the command and its sessions are gone then.
    """
    limits = place.limits
    watch = Watch(
        place.hand, place.target.connection.application_name, place.database, limits.lock_timeout, limits.lock_limit
    )
    try:
        return _call(place, command, watch, watch.look, place.context.progress)
    except OpsError as error:
        raise cut.told(place, command, before, pending, error) from error


def _evidence(place: Place, plan: Plan, pending: Sequence[str] | None) -> dict[str, object]:
    return {
        "pending": [{"version": name} for name in pending or []],
        "applied": [],
        "run": place.run,
        "lines": preview(plan),
    }


def migrate(place: Place) -> Result:
    """States applied and rehearsed. An undo is the application's, or a restore."""
    command = domain.parse_command(cast("_Body", place.params.get("command") or {}))
    if place.params.get("state") == "undone":
        raise OpsError(
            "no_way_back",
            "The application's migrator keeps no way back that is known here.",
            "Go back by its own means, or restore the set of before the run: restore, then restore -e switch=true.",
        )
    files, before = _files(command), migrator_watch.read(place.reader, command.ledger)
    pending = domain.pending_of(command, list(files), before)
    plan = domain.plan_of(command, pending)
    evidence = _evidence(place, plan, pending)
    record = rehearsals.key(place.system, place.live, "command", domain.digest_of(command, files, before))
    if place.rehearsing:
        return _rehearse(place, command, plan, evidence, record, before)
    missing: list[OpsError] = []
    if not plan.empty:
        missing = [*against_backup(place), *against_rehearsal(place, {"the command": record}, "it")]
        missing += _against_limits(place, record)
    if place.context.check_mode:
        evidence["lacks"] = [one.code for one in missing]
        plan = replace(plan, warnings=tuple(f"[{one.code}] {one.cause}" for one in missing))
        word = "may run" if pending is None else f"would apply {len(pending)} migrations"
        return Result(plan, not plan.empty, f"{command.argv[0]} {word} in {place.database}.", evidence)
    if missing:
        raise refusal(missing)
    if plan.empty or _was_nothing(place, record, pending):
        return Result(Plan("migrate", ()), False, f"Nothing is pending in {place.database}.", evidence)
    place.context.authorise(plan)
    said = place.begin()
    tell_switched_off(place)
    place.confirm()
    outcome = _patiently(place, command, before, pending)
    evidence["said"] = said
    return _judge(place, command, plan, evidence, outcome, before)


def _patiently(place: Place, command: Command, before: Sequence[str], pending: Sequence[str] | None) -> Outcome:
    """Run it, and again after a pause of random length while it misses locks and has applied nothing."""
    hands, limits = place.hands(), place.limits
    end = time.monotonic() + limits.lock_wait
    tries = 0
    while True:
        tries += 1
        outcome = _run(place, command, before, pending)
        missed = outcome.code != 0 and (outcome.watch.stopped or domain.missed_locks(outcome.lines))
        pause = min(10.0, limits.lock_timeout * 2.0 ** min(tries, 10)) * (0.5 + hands.jitter())
        if not missed or time.monotonic() + pause >= end:
            return outcome
        if cut.read_ledger(place, command) != list(before):
            return outcome
        place.context.progress(f"{command.argv[0]}: locks not free, try {tries}; again in {pause:.1f} s")
        hands.sleep(pause)
        place.confirm()


def _judge(
    place: Place,
    command: Command,
    plan: Plan,
    evidence: dict[str, object],
    outcome: Outcome,
    before: Sequence[str],
) -> Result:
    """What the ledger says became of it. Raises OpsError command_failed, ledger_went_back."""
    try:
        applied, gone = domain.news(before, cut.read_ledger(place, command))
    except OpsError as error:
        raise OpsError(
            "ledger_unreadable",
            f"{command.argv[0]} ended with exit code {outcome.code}, and what it applied is not known: {error.cause} "
            f"It said: {domain.essence(outcome.lines)}",
            f"See what {command.ledger.table} has before anything else; then run the verb again.",
            {**error.details, "exit_code": outcome.code, "output": list(outcome.lines)},
        ) from error
    evidence.update({"applied": applied, "output": list(outcome.lines)})
    names = ", ".join(applied) or "nothing"
    if outcome.code != 0 or outcome.watch.stopped:
        why = f"It was stopped: {'; '.join(outcome.watch.stopped)}. " if outcome.watch.stopped else ""
        raise OpsError(
            "command_failed",
            f"{command.argv[0]} ended with exit code {outcome.code}. {why}Applied by its ledger: {names}. "
            f"It said: {domain.essence(outcome.lines)}",
            "Correct what it names, and run the verb again: it goes on behind what is applied."
            if applied
            else "Correct what it names, and run the verb again; its ledger is as it was.",
            {"applied": applied, "exit_code": outcome.code, "output": list(outcome.lines)},
        )
    if gone:
        raise OpsError(
            "ledger_went_back",
            f"{command.argv[0]} took {', '.join(gone)} out of its ledger.",
            "Look whether it undid migrations; a restore brings them back.",
            {"gone": gone, "applied": applied},
        )
    if not outcome.watch.seen:
        place.context.warn(
            "No session under the mark of this run was seen, so nobody watched how long others waited: have the "
            "migrator take application_name from PGAPPNAME or from its address (url_variable)."
        )
    if not applied:
        message = (
            f"{command.argv[0]} ended well and its ledger did not change: nothing was pending, or it keeps another."
        )
        return Result(plan, False, message, evidence)
    return Result(plan, True, f"Applied in {place.database}: {names}.", evidence)


def _rehearse(
    place: Place, command: Command, plan: Plan, evidence: dict[str, object], record: str, before: Sequence[str]
) -> Result:
    """On a copy: whether the limits take, then the command itself; on record when it went well."""
    place.context.authorise(plan if not plan.empty else Plan("migrate", (_act(command),)))
    place.begin()
    with _live_guarded(place, command):
        taken = _limits_taken(place, command)
        outcome = _run(place, command, before, None)
    result = _judge(place, command, plan, evidence, outcome, before)
    body: dict[str, Json] = {
        "system": place.system,
        "database": place.live,
        "command": list(command.argv),
        "applied": [str(one) for one in cast("Sequence[object]", evidence["applied"])],
        "limits_taken": taken,
        "in": place.database,
        "run": place.run,
        "at": place.context.now,
    }
    rehearsals.save(place.store, record, body)
    evidence["limits_taken"] = taken
    evidence["undone"] = []
    return replace(result, message=f"{result.message} {_TAKEN[taken]}")


_TAKEN = {
    True: "It obeys lock_timeout.",
    False: "It does NOT obey lock_timeout.",
    None: "Whether it obeys lock_timeout could not be seen.",
}


def _act(command: Command) -> Action:
    return Action("run", " ".join(command.argv), "on a copy")


@contextlib.contextmanager
def _live_guarded(place: Place, command: Command) -> Iterator[None]:
    """While it runs on a copy, its ledger in the live database of the same server is locked against writing.

    A migrator that has an address of its own somewhere would otherwise migrate the live database, unasked.
    Raises OpsError rehearsal_hit_live.
    """
    if place.live == place.database:
        yield
        return
    try:
        live = place.target.session(place.live)
    except OpsError as error:
        if error.code != "unknown_database":
            raise
        yield
        return
    with contextlib.closing(live):
        there = migrator_watch.exists(live, command.ledger)
        before = migrator_watch.read(live, command.ledger)
        live.run("BEGIN")
        if there:
            live.run("SET LOCAL lock_timeout = '5s'")
            live.run(render("LOCK TABLE {table:I} IN SHARE ROW EXCLUSIVE MODE", table=command.ledger.parts))
        yield
        live.run("ROLLBACK")
        if migrator_watch.read(live, command.ledger) != before:
            raise OpsError(
                "rehearsal_hit_live",
                f"{command.argv[0]} was to work in {place.database}, and the ledger of {place.live} changed.",
                "It takes its address from elsewhere: have it take DATABASE_URL (url_variable) or PG* variables.",
            )


def _limits_taken(place: Place, command: Command) -> bool | None:
    """Whether the migrator gives up on a lock that it cannot have; None when that cannot be tried.

    Nobody but the server stops it here: it is given a few seconds more than lock_timeout, then it is ended.
    """
    if not migrator_watch.exists(place.reader, command.ledger):
        return None
    longest = place.limits.lock_timeout + _SLACK_SECONDS
    watch = Watch(place.hand, place.target.connection.application_name, place.database, 1e6, 1e6)

    def tick() -> None:
        watch.look()
        if watch.longest_wait > longest:
            raise OpsError("limits_not_taken", "It waits for the lock longer than it may.", "")

    with contextlib.closing(place.target.named("saasops-migrate-probe").session(place.database)) as session:
        session.run("BEGIN")
        session.run(render("LOCK TABLE {table:I} IN ACCESS EXCLUSIVE MODE", table=command.ledger.parts))
        try:
            _call(place, command, watch, tick, lambda _line: None)
        except OpsError as error:
            # a process in a container lives on, and would work once it gets its lock
            cut.end_sessions(place)
            if error.code != "limits_not_taken":
                raise
            return False
        finally:
            session.run("ROLLBACK")
    # one that never waited was not tried: it looks at no ledger, or under another mark
    return True if watch.longest_wait > 0 else None


def _recorded(place: Place, record: str) -> dict[str, Json]:
    try:
        return read_json(place.store, record)
    except OpsError as error:
        if error.code not in ("object_missing", "object_damaged"):
            raise
        return {}


def _against_limits(place: Place, record: str) -> list[OpsError]:
    """A migrator that was seen to wait without end is not let near the live database."""
    if place.params.get("staging") == "off" or _recorded(place, record).get("limits_taken") is not False:
        return []
    return [
        OpsError(
            "limits_not_taken",
            "On the copy the migrator waited for a lock longer than lock_timeout: its driver takes neither PGOPTIONS "
            "nor the options of its address.",
            "Set command.url_variable to the variable that it reads its address from, or set lock_timeout in the "
            "migrator itself.",
        )
    ]


def _was_nothing(place: Place, record: str, pending: Sequence[str] | None) -> bool:
    """Whether the copy, in the state of this very ledger, had nothing to apply."""
    if pending is not None or place.params.get("staging") == "off":
        return False
    return _recorded(place, record).get("applied") == []
