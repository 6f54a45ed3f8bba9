# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application's own migrator: how it is told where to work and within which limits, and what its ledger says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan

# how soon the server ends a statement whose client is gone
CLIENT_CHECK_SECONDS = 1.0
_PLACE = re.compile(r"\{(url|host|port|user|database|password|options)\}")


@dataclass(frozen=True)
class LedgerTable:
    """Where the migrator keeps what it applied: table ("schema.table" or "table"), column of the names, their order."""

    table: str
    version_column: str
    order: str

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.table.split("."))


@dataclass(frozen=True)
class Command:
    """argv, folder and user of the migrator; environment as the inventory has it, with {url} and the like in it.

    folder: where its files lie, "" when nobody can tell what is pending; suffixes are taken off their names.
    """

    argv: tuple[str, ...]
    chdir: str
    user: str
    environment: Mapping[str, str]
    url_variable: str
    ledger: LedgerTable
    folder: str = ""
    suffixes: tuple[str, ...] = ()


def parse_command(body: Mapping[str, object]) -> Command:
    """The option command. Raises OpsError not_configured."""
    argv = tuple(str(one) for one in _list(body.get("argv")))
    ledger = body.get("ledger")
    if not argv or not isinstance(ledger, Mapping) or not ledger.get("table") or not ledger.get("version_column"):
        raise OpsError(
            "not_configured",
            "The engine command needs argv, and its ledger (table and version_column).",
            "Set saasops_migrations.command.argv and saasops_migrations.command.ledger in the inventory.",
        )
    column = str(ledger["version_column"])
    environment = body.get("environment")
    return Command(
        argv=argv,
        chdir=str(body.get("chdir") or ""),
        user=str(body.get("user") or ""),
        environment={str(k): str(v) for k, v in environment.items()} if isinstance(environment, Mapping) else {},
        url_variable=str(body.get("url_variable") or ""),
        ledger=LedgerTable(str(ledger["table"]), column, str(ledger.get("order") or column)),
        folder=str(body.get("folder") or ""),
        suffixes=tuple(str(one) for one in _list(body.get("suffixes"))),
    )


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, (list, tuple)) else []


@dataclass(frozen=True)
class Login:
    """Where the migrator is to connect."""

    host: str
    port: int
    user: str
    database: str
    password: str
    ssl_mode: str = ""


def pgoptions(lock_timeout: float, limit: float, idle: float, version: int, *, looks: bool) -> str:
    """The limits, for PGOPTIONS or the options of an address; seconds in, milliseconds out.

    The server keeps them when nobody watches any more. idle: how long an open transaction may do nothing. version:
    server_version_num; from 17 on a transaction has the limit as a whole. looks: whether the server can look, while a
    statement runs, if its client is still there.
    """
    settings = {
        "lock_timeout": lock_timeout,
        "statement_timeout": limit,
        "idle_in_transaction_session_timeout": idle,
    }
    if version >= 170000:
        settings["transaction_timeout"] = limit
    if looks:
        settings["client_connection_check_interval"] = CLIENT_CHECK_SECONDS
    return " ".join(f"-c {name}={max(1, int(value * 1000))}" for name, value in settings.items())


def address(login: Login, options: str, mark: str) -> str:
    """A postgresql:// address with everything in it; it carries the password, so it goes nowhere but an environment."""
    who = quote(login.user, safe="")
    if login.password:
        who += ":" + quote(login.password, safe="")
    socket = login.host.startswith("/")
    where = "" if socket or not login.host else (f"[{login.host}]" if ":" in login.host else login.host)
    query = {"options": options, "application_name": mark}
    if socket:
        query["host"] = login.host
    if login.ssl_mode:
        query["sslmode"] = login.ssl_mode
    more = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    return f"postgresql://{who}@{where}:{login.port}/{quote(login.database, safe='')}?{more}"


def environment(command: Command, login: Login, options: str, mark: str, secrets: Mapping[str, str]) -> dict[str, str]:
    """What the migrator finds in its environment, without PGPASSFILE."""
    url = address(login, options, mark)
    values = {
        "url": url,
        "host": login.host,
        "port": str(login.port),
        "user": login.user,
        "database": login.database,
        "password": login.password,
        "options": options,
    }
    found = {
        "PGHOST": login.host,
        "PGPORT": str(login.port),
        "PGUSER": login.user,
        "PGDATABASE": login.database,
        "PGOPTIONS": options,
        "PGAPPNAME": mark,
    }
    if login.ssl_mode:
        found["PGSSLMODE"] = login.ssl_mode
    if command.url_variable:
        found[command.url_variable] = url
    for name, text in {**command.environment, **secrets}.items():
        found[name] = _PLACE.sub(lambda match: values[match.group(1)], text)
    return {name: value for name, value in found.items() if value}


def digest_of(command: Command, files: Mapping[str, str], before: Sequence[str]) -> str:
    """What a rehearsal speaks of: the command, its files (name -> SHA-256), or the ledger where no folder is named."""
    state = [f"{name} {files[name]}" for name in sorted(files)] if command.folder else list(before)
    return hashlib.sha256("\0".join([*command.argv, "", *state]).encode()).hexdigest()


def pending_of(command: Command, files: Sequence[str], before: Sequence[str]) -> list[str] | None:
    """Files that the ledger does not have, in their order; None when no folder tells."""
    if not command.folder:
        return None
    names = {_stem(name, command.suffixes) for name in files}
    return sorted(names - {_stem(one, command.suffixes) for one in before})


def left_of(command: Command, pending: Sequence[str], now: Sequence[str]) -> list[str]:
    """What was pending and is not in the ledger now."""
    there = {_stem(one, command.suffixes) for one in now}
    return [one for one in pending if one not in there]


def _stem(name: str, suffixes: Sequence[str]) -> str:
    for suffix in suffixes:
        if name.endswith(suffix):
            return name[: -len(suffix)]
    return name


def plan_of(command: Command, pending: Sequence[str] | None) -> Plan:
    """The plan: the command once, with what it is going to apply when that is known."""
    if pending is not None and not pending:
        return Plan("migrate", ())
    program = " ".join(command.argv)
    if pending is None:
        return Plan(
            "migrate", (Action("run", program, "what is pending, its own ledger tells only afterwards"),), {"files": 1}
        )
    actions = tuple(Action("apply", name, f"by {program}") for name in pending)
    return Plan("migrate", actions, {"files": len(pending)})


def news(before: Sequence[str], after: Sequence[str]) -> tuple[list[str], list[str]]:
    """What the ledger has now and had not, and what it had and has no more."""
    return [one for one in after if one not in set(before)], [one for one in before if one not in set(after)]


def tail(lines: Sequence[str], hidden: Sequence[str], most: int = 60) -> list[str]:
    """The last lines of an output, with every secret taken out."""
    found = []
    for given in lines[-most:]:
        line = given
        for secret in sorted((one for one in hidden if len(one) > 3), key=len, reverse=True):
            line = line.replace(secret, "***")
        found.append(line[:300])
    return found


_TELLING = re.compile(r"error|fatal|denied|timeout", re.IGNORECASE)
_LOCKS = re.compile(r"55P03|40P01|lock timeout|could not obtain lock|deadlock detected", re.IGNORECASE)


def essence(lines: Sequence[str]) -> str:
    """What a person wants of an output that ended badly: the first lines that speak of an error, else the last ones."""
    telling = [line.strip() for line in lines if _TELLING.search(line)][:3]
    return " | ".join(telling or [line.strip() for line in lines[-3:]]) or "nothing"


def missed_locks(lines: Sequence[str]) -> bool:
    """Whether it says that it did not get a lock, so that it may be tried again."""
    return any(_LOCKS.search(line) for line in lines)
