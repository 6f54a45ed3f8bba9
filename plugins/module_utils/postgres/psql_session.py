# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session through one long-lived psql process, wherever a transport can start one.

Each statement is followed by \\echo of a random mark, of psql's own variables on what became of it, and of
the mark again: what stands before the first mark is the result, and an answer without both marks is none.
A \\warn of the mark ends what the statement made psql say on its other stream, which is where notices come.
The process stays, so a transaction and its exported snapshot live from call to call.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import Connection, passfile_line
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.failures import from_server
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.psql_input import encode
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import (
    NOTICES_KEPT,
    Json,
    Row,
    first_line,
    wrapped,
)
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Process, Transport

if TYPE_CHECKING:
    from io import BufferedReader

# unaligned, tuples only, quiet, no start-up file, and never a prompt for a password
ARGUMENTS = ("-X", "-A", "-t", "-q", "-w")
# without detail, hint and context a message is what follows its severity
_TERSE = b"\\set VERBOSITY terse\n"
_MESSAGE = re.compile(r"^\S+:  ", re.MULTILINE)
# how long the last words of a statement that has been answered may be on their way, in seconds
_LAST_WORDS = 10.0
# psql_input relies on the first; the second lets the server notice within seconds that psql was killed
_FIRST = (
    "SET standard_conforming_strings = on",
    "SELECT set_config(name, '5s', false) FROM pg_catalog.pg_settings WHERE name = 'client_connection_check_interval'",
)


class PsqlSession:
    """See postgres.session.Session."""

    def __init__(
        self, connection: Connection, transport: Transport, program: str = "psql", timeout: float | None = None
    ) -> None:
        """Connect. Raises OpsError: postgres.failures, tool_missing, and what the transport raises.

        timeout: seconds a statement may take; then psql is ended and OpsError session_timeout raised.
        """
        self._timeout = timeout
        self._mark = os.urandom(16).hex()
        self._count = 0
        self._failed = False
        self._timed_out = False
        self._doing = f"connecting to database {connection.database!r}"
        # a bound for a transport that hangs; libpq's own connect_timeout is per address and comes first
        patience = connection.connect_timeout * 3 + 30 if connection.connect_timeout else None
        environment = {**connection.environment(), "PGCLIENTENCODING": "UTF8"}
        with contextlib.ExitStack() as until_connected:
            if connection.password is not None:
                secret = transport.secret_file(passfile_line(connection.password))
                environment["PGPASSFILE"] = until_connected.enter_context(secret)
            self._process: Process | None = transport.start([program, *ARGUMENTS], env=environment, stdin=True)
            try:
                self._greet(program, patience)
            except BaseException:
                self._abandon()
                raise
        self._doing = f"working in database {connection.database!r}"

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def version(self) -> int:
        return self._version

    def rows(self, sql: str) -> list[Row]:
        return self._rows(sql, self._timeout)

    def value(self, sql: str) -> Json:
        for row in self.rows(sql):
            return next(iter(row.values()))
        return None

    def run(self, sql: str) -> None:
        self._execute(sql, self._timeout)

    def notices(self) -> list[str]:
        if self._process is None or self._failed:
            return []
        before, after = f"{self._mark}-{self._count - 1} said\n", f"{self._mark}-{self._count} said\n"
        deadline = time.monotonic() + _LAST_WORDS
        while after not in self._process.stderr_text():
            if time.monotonic() > deadline:
                raise OpsError(
                    "tool_too_old",
                    "psql did not tell what the server said beside the result.",
                    "Install the client package of the server's major version, or set connection.client_bin.",
                )
            time.sleep(0.005)
        said = self._process.stderr_text().partition(after)[0].rpartition(before)[2]
        starts = [match.start() for match in _MESSAGE.finditer(said)]
        texts = [said[start:end] for start, end in zip(starts, [*starts[1:], len(said)])]
        return [first_line(text) for text in texts][-NOTICES_KEPT:]

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError, ValueError):
            if process.stdin is not None:
                process.stdin.close()
        # psql leaves on the end of its input; what it says then is of no interest any more
        with contextlib.suppress(OpsError, subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()

    def _greet(self, program: str, patience: float | None) -> None:
        try:
            self._execute(_FIRST[0], patience)
        except OpsError as error:
            if error.code != "session_timeout":
                raise
            raise OpsError(
                "server_unreachable",
                f"{program} did not connect within {patience:.0f} seconds.",
                "Check that the server runs, its host and port, and the firewall between.",
            ) from error
        self._doing = "starting the session"
        # not every platform has it
        with contextlib.suppress(OpsError):
            self._execute(_FIRST[1], patience)
        query = "SELECT pg_catalog.pg_backend_pid() AS pid, current_setting('server_version_num')::int AS version"
        (row,) = self._rows(query, patience)
        self._pid, self._version = int(str(row["pid"])), int(str(row["version"]))

    def _rows(self, sql: str, timeout: float | None) -> list[Row]:
        # psql leaves characters that it takes for invalid (U+1FFFE and the like) out of what it prints
        answer = self._execute(f"SELECT encode(convert_to(({wrapped(sql)}), 'UTF8'), 'base64')", timeout)
        try:
            return cast("list[Row]", json.loads(base64.b64decode(answer).decode("utf-8")))
        except UnicodeDecodeError as error:
            raise from_server("22021", "the result is not valid UTF-8", self._doing) from error

    def _execute(self, sql: str, timeout: float | None) -> bytes:
        """Send one statement and return what it printed. Raises OpsError."""
        self._failed = True
        statement = encode(sql)
        if self._process is None:
            raise _ended(self._doing, "the session was closed")
        self._count += 1
        mark = f"{self._mark}-{self._count}"
        # before what ends the answer, so that it is on its way when the answer is there
        said = f"\n\\g\n\\warn {mark} said"
        after = f"{said}\n\\echo {mark} :ERROR :SQLSTATE\n\\echo :LAST_ERROR_MESSAGE\n\\echo {mark} end\n"
        first = _TERSE if self._count == 1 else b""
        with self._watched(self._process, timeout):
            answer = self._exchange(self._process, first + statement + after.encode("ascii"), mark.encode("ascii"))
        if answer is None:
            raise self._died(timeout)
        result, _mark, rest = answer.partition(mark.encode("ascii") + b" ")
        state, _newline, rest = rest.partition(b"\n")
        failed, sqlstate = state.decode("ascii").split(" ")
        self._failed = failed == "true"
        if self._failed:
            message = rest.rpartition(b"\n" + mark.encode("ascii"))[0].decode("utf-8", "replace")
            raise from_server(sqlstate, message, self._doing)
        return result

    @staticmethod
    def _exchange(process: Process, given: bytes, mark: bytes) -> bytes | None:
        """Write, then read up to the last mark; None when the process ended before."""
        last = mark + b" end\n"
        answer = bytearray()
        try:
            stdin, stdout = process.stdin, cast("BufferedReader", process.stdout)
            if stdin is None:
                return None
            stdin.write(given)
            stdin.flush()
            while True:
                chunk = stdout.read1(1 << 18)
                if not chunk:
                    return None
                answer += chunk
                if answer.endswith(last):
                    return bytes(answer)
        except (OSError, ValueError):
            # a broken pipe, or a pipe the watch has closed
            return None

    @contextlib.contextmanager
    def _watched(self, process: Process, timeout: float | None) -> Iterator[None]:
        if timeout is None:
            yield
            return

        def end() -> None:
            self._timed_out = True
            process.kill()

        watch = threading.Timer(timeout, end)
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()
            watch.join()

    def _died(self, timeout: float | None) -> OpsError:
        """Why there is no answer; the session is over. Raises what the transport knows better."""
        process, self._process = self._process, None
        if self._timed_out or process is None:
            return OpsError(
                "session_timeout",
                f"No answer within {timeout or 0:g} seconds while {self._doing}.",
                "See what the server is busy with (verb sessions), then run the verb again.",
                {"sqlstate": ""},
            )
        try:
            code = process.wait(10)
        except subprocess.TimeoutExpired:
            code = -1
        except OpsError as error:
            # a cut stream is the end of a session; a container that stopped is said as it is
            if error.code != "stream_cut":
                raise
            return _ended(self._doing, error.cause.rstrip("."))
        finally:
            process.kill()
        # what earlier statements made it say is not why it ended
        text = re.split(rf"^{self._mark}-\d+ said\n", process.stderr_text(), flags=re.MULTILINE)[-1]
        if code in (126, 127):
            return OpsError(
                "tool_missing",
                f"psql cannot be run: {_first(text)}.",
                "Install the PostgreSQL client package of the server's major version, or set connection.client_bin.",
                {"sqlstate": ""},
            )
        if self._doing.startswith("connecting"):
            # libpq's message follows psql's prefix, and may be preceded by warnings
            text = text[text.find("psql: error: ") :] if "psql: error: " in text else text
            return from_server(None, text.replace("psql: error: ", "", 1), self._doing)
        return _ended(self._doing, _first(text) or f"psql ended with exit code {code}")

    def _abandon(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()


def _first(text: str) -> str:
    return " ".join(text.strip().split("\n")[0].split()).rstrip(".")


def _ended(doing: str, why: str) -> OpsError:
    error = from_server("57P01", why, doing)
    return OpsError(error.code, f"The session ended while {doing}: {why}.", error.remedy, error.details)
