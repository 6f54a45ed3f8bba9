# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer's admin console, through a psql process wherever the client tools run.

The console speaks the simple protocol only and knows no SELECT, so it is no postgres.session.Session.
"""

from __future__ import annotations

import contextlib
import csv
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pooler import Pool, choose_pools, pooler_failure
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import (
    Connection,
    from_params,
    passfile_line,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Process

if TYPE_CHECKING:
    from io import BufferedReader

CONSOLE = "pgbouncer"
# unaligned comma-separated, quiet, no start-up file, never a prompt for a password
ARGUMENTS = ("-X", "-q", "-w", "--csv")
# seconds for an answer of the console; PAUSE has a limit of its own
ANSWER_SECONDS = 10.0
PAUSE_TIMEOUT = 5

POOLERS_SPEC: dict[str, dict[str, object]] = {
    "poolers": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "host": {"type": "str", "default": ""},
            "port": {"type": "int", "default": 6432},
            "unix_socket": {"type": "str", "default": ""},
            "user": {"type": "str", "default": ""},
            "password": {"type": "str", "no_log": True},
            "database": {"type": "str", "default": ""},
            "pause_timeout": {"type": "int", "default": PAUSE_TIMEOUT},
            "ssl_mode": {
                "type": "str",
                "default": "prefer",
                "choices": ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
            },
            "ca_cert": {"type": "path"},
        },
    },
}


@dataclass(frozen=True)
class Pooler:
    """One PgBouncer. connection leads to its console. database: the only name to pause there, '' for all that lead to
    the live database. pause_timeout: seconds that running transactions are given."""

    connection: Connection
    database: str
    pause_timeout: float

    @property
    def name(self) -> str:
        return f"{self.connection.host or 'localhost'}:{self.connection.port}"


def poolers_of(params: Mapping[str, object], application_name: str) -> list[Pooler]:
    """From the option poolers (POOLERS_SPEC)."""
    return [
        Pooler(
            # 6432 is PgBouncer's own default
            from_params({"port": 6432, **item}, CONSOLE).named(application_name),
            str(item.get("database") or ""),
            float(str(PAUSE_TIMEOUT if item.get("pause_timeout") is None else item["pause_timeout"])),
        )
        for item in cast("list[Mapping[str, object]]", params.get("poolers") or [])
    ]


def quoted(name: str) -> str:
    """A database's name for the console."""
    return '"' + name.replace('"', '""') + '"'


class Console:
    """A psql process that is logged in to a pooler's console.

    Nobody but this process holds the other end of its stdin: when we die, psql reads the end of it.
    """

    def __init__(self, target: Target, pooler: Pooler) -> None:
        """Log in, proven by an answer. Raises OpsError (domain.pooler.pooler_failure), tool_missing."""
        self._pooler = pooler
        self._mark = os.urandom(8).hex()
        self._count = 0
        self._said = bytearray()
        self._news = threading.Condition()
        self._over = False
        connection, environment = pooler.connection, {**pooler.connection.environment(), "PGCLIENTENCODING": "UTF8"}
        with contextlib.ExitStack() as until_connected:
            if connection.password is not None:
                secret = target.transport.secret_file(passfile_line(connection.password))
                environment["PGPASSFILE"] = until_connected.enter_context(secret)
            self._process: Process = target.transport.start(
                [target.program("psql"), *ARGUMENTS], env=environment, stdin=True
            )
            try:
                threading.Thread(target=self._listen, daemon=True).start()
                self.ask("SHOW VERSION", connection.connect_timeout * 3 + ANSWER_SECONDS)
            except BaseException:
                self.close()
                raise

    def _listen(self) -> None:
        stdout = cast("BufferedReader", self._process.stdout)
        with contextlib.suppress(OSError, ValueError):
            for chunk in iter(lambda: stdout.read1(1 << 16), b""):
                with self._news:
                    self._said += chunk
                    self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def write(self, text: str) -> None:
        """Give psql something to read. Raises OpsError pooler_unreachable when it is gone."""
        stdin = self._process.stdin
        try:
            if stdin is None:
                raise BrokenPipeError
            stdin.write(text.encode())
            stdin.flush()
        except (OSError, ValueError) as error:
            raise self._died() from error

    def end_input(self) -> None:
        """Close psql's stdin, as our death would; it carries out what it was given without a newline."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._process.stdin.close()

    def wait_for(self, word: str, seconds: float) -> bytes | None:
        """What psql printed before this word, once it has; None when it did not in time or ended."""
        marked, deadline = word.encode(), time.monotonic() + seconds
        with self._news:
            while marked not in self._said:
                left = deadline - time.monotonic()
                if self._over or left <= 0:
                    return None
                self._news.wait(left)
            before, _marked, rest = bytes(self._said).partition(marked)
            self._said = bytearray(rest)
            return before

    @property
    def over(self) -> bool:
        """Whether psql has ended, so that nothing more can come."""
        with self._news:
            return self._over

    def send(self, command: str) -> str:
        """Give psql one command and its marks; the word that ends its answer."""
        self._count += 1
        word = f"{self._mark}-{self._count}"
        self.write(f"{command};\n\\echo {word} :ERROR\n\\echo :LAST_ERROR_MESSAGE\n\\echo {word}-end\n")
        return word

    def answer(self, word: str, seconds: float) -> list[dict[str, str]] | None:
        """The rows of what was sent; None when there is no answer yet. Raises OpsError."""
        said = self.wait_for(f"{word}-end\n", seconds)
        if said is None:
            if self.over:
                raise self._died()
            return None
        table, _word, rest = said.decode("utf-8", "replace").partition(f"{word} ")
        failed, _newline, message = rest.partition("\n")
        if failed == "true":
            raise pooler_failure(self._pooler.name, message)
        return list(csv.DictReader(StringIO(table.strip("\n"))))

    def ask(self, command: str, seconds: float = ANSWER_SECONDS) -> list[dict[str, str]]:
        """One command and its rows. Raises OpsError."""
        rows = self.answer(self.send(command), seconds)
        if rows is None:
            raise pooler_failure(self._pooler.name, f"no answer to {command} within {seconds:.0f} seconds")
        return rows

    def _died(self) -> OpsError:
        with contextlib.suppress(OpsError, subprocess.TimeoutExpired):
            self._process.wait(5)
        text = self._process.stderr_text()
        return pooler_failure(
            self._pooler.name, text[text.find("psql: error: ") :] if "psql: error: " in text else text
        )

    def wait_for_end(self, seconds: float) -> bool:
        """Whether psql ended within this time."""
        with self._news:
            return self._news.wait_for(lambda: self._over, seconds)

    def close(self) -> None:
        """End psql; what it was given and has not carried out stays undone."""
        self._process.kill()


def read_pools(target: Target, pooler: Pooler, live: str) -> list[Pool]:
    """The pools that lead to the live database; nothing is changed. Raises OpsError pooler_*."""
    with contextlib.closing(Console(target, pooler)) as console:
        # whoever may only look is told so before he hears what there is
        try:
            console.ask(f"RESUME {quoted('saasops-' + os.urandom(8).hex())}")
        except OpsError as error:
            if "no such database" not in error.cause:
                raise
        config = {row["key"]: row["value"] for row in console.ask("SHOW CONFIG")}
        databases = console.ask("SHOW DATABASES")
        if not any(row["database"] == live and pooler.database in ("", row["name"]) for row in databases):
            _knock(target, pooler, pooler.database or live)
            databases = console.ask("SHOW DATABASES")
        return choose_pools(pooler.name, databases, console.ask("SHOW POOLS"), config, live, pooler.database)


def _knock(target: Target, pooler: Pooler, name: str) -> None:
    """Come as a client: a pooler with an entry for any database (*) lists one only when somebody asked for it.

    Whether he is let in does not matter.
    """
    environment = pooler.connection.to(name).environment()
    with contextlib.ExitStack() as stack, contextlib.suppress(OpsError, subprocess.TimeoutExpired):
        if pooler.connection.password is not None:
            secret = target.transport.secret_file(passfile_line(pooler.connection.password))
            environment["PGPASSFILE"] = stack.enter_context(secret)
        target.transport.run(
            [target.program("psql"), *ARGUMENTS, "-c", "SELECT 1"], env=environment, timeout=ANSWER_SECONDS
        )
