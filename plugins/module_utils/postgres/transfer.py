# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes from one client tool into another: a table's rows or a definition, from database to database."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.dump import CHUNK, failure
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Transport

# how pg_dump itself sets a session up, so that values keep every digit on the way; names are all qualified
_SETTINGS = (
    "-c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=3 -c row_security=off -c search_path=pg_catalog"
    " -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
    " -c default_transaction_read_only=off -c synchronous_commit=off"
)
_PSQL = ("-X", "-q", "-A", "-t", "-w")


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    return {**env, "PGOPTIONS": _SETTINGS, "PGCLIENTENCODING": "UTF8"}


def _pump(
    transport: Transport,
    source: tuple[Sequence[str], Mapping[str, str]],
    sink: tuple[Sequence[str], Mapping[str, str]],
    tools: tuple[str, str],
) -> str:
    """Run both, hand the first one's output to the second, and return what the second wrote to stderr.

    Raises OpsError when either does not exit 0: the sink alone cannot know that its input was cut.
    """
    giving = transport.start(source[0], env=_environment(source[1]))
    try:
        taking = transport.start(sink[0], env=_environment(sink[1]), stdin=True)
        drain = threading.Thread(target=_drain, args=(taking.stdout,), daemon=True)
        drain.start()
        try:
            if giving.stdout is None or taking.stdin is None:
                raise OpsError("transport_failed", "The transport gave no stream.", "Report this as a defect.")
            with contextlib.suppress(BrokenPipeError):  # its exit code says why
                for chunk in iter(lambda: giving.stdout.read(CHUNK), b""):  # type: ignore[union-attr]
                    taking.stdin.write(chunk)
                taking.stdin.flush()
            with contextlib.suppress(BrokenPipeError):
                taking.stdin.close()
            code = taking.wait()
            if code != 0:
                raise failure(tools[1], code, taking.stderr_text())
            code = giving.wait()
            if code != 0:
                raise failure(tools[0], code, giving.stderr_text())
            drain.join(5)
            return taking.stderr_text()
        finally:
            taking.kill()
    finally:
        giving.kill()


def _drain(stream: object) -> None:
    with contextlib.suppress(ValueError, OSError):
        while stream is not None and stream.read(CHUNK):  # type: ignore[attr-defined]
            pass


def copy_rows(target: Target, source: tuple[str, str], sink: tuple[str, str]) -> None:
    """Rows of one database into a table of another. source and sink: (database, COPY statement).

    A cut stream that left both tools content is found by the caller, who compares counts and hashes.
    """
    psql = target.program("psql")
    with target.environment(source[0]) as giving, target.environment(sink[0]) as taking:
        _pump(
            target.transport,
            ([psql, *_PSQL, "-c", source[1]], giving),
            ([psql, *_PSQL, "-v", "ON_ERROR_STOP=1", "-c", sink[1]], taking),
            ("psql (COPY out)", "psql (COPY in)"),
        )


def copy_definitions(target: Target, version: int, source: str, sink: str, schemas: Sequence[str]) -> str:
    """Types, functions, empty tables with keys of these schemas, and all extensions, as far as they can be created.

    Foreign keys and views of schemas that are not copied fail, which does no harm; returns what psql said.
    """
    argv = [
        target.tool("pg_dump", version), "--schema-only", "--no-owner", "--no-privileges", "--no-comments",
        "--no-publications", "--no-subscriptions", "--no-security-labels", "--no-tablespaces", "--no-password",
        "--quote-all-identifiers", "--lock-wait-timeout=30s", "--extension=*",
    ]  # fmt: skip
    # a pattern in double quotes is a name; without any name all but the extensions is kept out
    argv += [f"--schema={ident(name)}" for name in schemas] or ["--exclude-schema=*"]
    psql = target.program("psql")
    with target.environment(source) as giving, target.environment(sink) as taking:
        return _pump(target.transport, (argv, giving), ([psql, *_PSQL, "-f", "-"], taking), ("pg_dump", "psql"))
