# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_dump under a shared snapshot, and the small texts that belong to a set."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.dump_proof import CopyRows
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Json, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Process

CHUNK = 1 << 20
LOCK_WAIT = "--lock-wait-timeout=30s"
STATISTICS_SINCE = 180000


def _options(snapshot: str, schemas: Sequence[str]) -> list[str]:
    options = ["--no-password", f"--snapshot={snapshot}", LOCK_WAIT, "--no-subscriptions", "--quote-all-identifiers"]
    # inside double quotes a pattern's special characters mean themselves
    options += [f"--schema={ident(name)}" for name in schemas]
    return options


def statistics_options(version: int, option: str) -> list[str]:
    """[option] where client tools and server know of statistics in a dump: from version 18 on."""
    return [option] if version >= STATISTICS_SINCE else []


def failure(tool: str, code: int, stderr: str) -> OpsError:
    """What a client tool's exit code and last words mean."""
    lines = [line for line in stderr.strip().split("\n") if line]
    said = next(
        (line for line in lines if re.search("error:|ERROR:|FATAL", line)), lines[-1] if lines else "no message"
    )
    said = re.sub(r"^\S*?(pg_\w+|psql(:<stdin>:\d+)?): (error: )?", "", said)
    if "could not obtain lock" in stderr or "canceling statement due to lock timeout" in stderr:
        return OpsError(
            "lock_timeout",
            f"{tool} could not lock a table that another session is changing: {said}.",
            "Run the verb again when no ALTER or DROP waits or runs on its tables.",
        )
    if "No space left on device" in stderr:
        return OpsError("staging_full", f"{tool} ran out of disk: {said}.", "Free space, or name another staging path.")
    if code < 0 or code in (137, 143):
        return OpsError(
            "tool_killed", f"{tool} was killed (exit code {code}).", "Nothing was kept; run the verb again."
        )
    return OpsError(
        "tool_failed",
        f"{tool} failed with exit code {code}: {said}.",
        "Nothing was kept; mend the cause and run again.",
    )


def wait_for(process: Process, tool: str, tick: Callable[[], None], seconds: float = 1.0) -> None:
    """Wait for a tool, calling tick() about every second; raise when it did not exit 0."""
    while True:
        try:
            code = process.wait(seconds)
            break
        except subprocess.TimeoutExpired:
            tick()
    if code != 0:
        raise failure(tool, code, process.stderr_text())


def dump_to_folder(
    target: Target,
    database: str,
    version: int,
    snapshot: str,
    schemas: Sequence[str],
    folder: str,
    jobs: int,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """pg_dump in directory format, uncompressed (we compress with zstd), into a folder that does not exist yet."""
    argv = [target.tool("pg_dump", version), "--format=directory", f"--jobs={jobs}", "--compress=0", "--no-sync"]
    argv += [f"--file={folder}", *statistics_options(version, "--statistics"), *_options(snapshot, schemas)]
    with target.environment(database) as env:
        process = target.transport.start(argv, env=env, stdout=False)
        try:
            wait_for(process, "pg_dump", tick)
        finally:
            process.kill()


@contextlib.contextmanager
def dump_stream(
    target: Target, database: str, version: int, snapshot: str, schemas: Sequence[str]
) -> Iterator[Iterator[bytes]]:
    """pg_dump in custom format as chunks; ending without an error means that the whole of it arrived.

    The exit code is looked at before the last chunk is given out: a dump that was cut raises inside the reader,
    so that nothing that consumed it (a put to the store) completes.
    """
    argv = [target.tool("pg_dump", version), "--format=custom", "--compress=0"]
    argv += [*statistics_options(version, "--statistics"), *_options(snapshot, schemas)]
    with target.environment(database) as env:
        process = target.transport.start(argv, env=env)
        stdout = process.stdout
        if stdout is None:
            raise OpsError("transport_failed", "The transport gave no output stream.", "Report this as a defect.")

        def chunks() -> Iterator[bytes]:
            while True:
                chunk = stdout.read(CHUNK)
                if len(chunk) < CHUNK:
                    code = process.wait()
                    if code != 0:
                        raise failure("pg_dump", code, process.stderr_text())
                    if chunk:
                        yield chunk
                    return
                yield chunk

        try:
            yield chunks()
        finally:
            process.kill()


def schema_text(target: Target, database: str, version: int, snapshot: str, schemas: Sequence[str]) -> bytes:
    """pg_dump --schema-only at the same snapshot: what the drill compares with, made by a tool that is not ours."""
    argv = [target.tool("pg_dump", version), "--schema-only", *_options(snapshot, schemas)]
    with target.environment(database) as env:
        done = target.transport.run(argv, env=env)
    if done.code != 0:
        raise failure("pg_dump --schema-only", done.code, done.stderr.decode("utf-8", "replace"))
    return done.stdout


def globals_text(target: Target, version: int, passwords: bool) -> bytes:
    """Roles, memberships, tablespaces and their settings; role passwords only where they are encrypted later.

    Raises OpsError not_permitted when the role may not read them.
    """
    argv = [target.tool("pg_dumpall", version), "--globals-only", "--no-password", "--quote-all-identifiers"]
    if not passwords:
        argv.append("--no-role-passwords")
    maintenance = target.connection.maintenance_database
    with target.environment(maintenance) as env:
        # pg_dumpall looks for a database of its own choosing unless it is told one
        done = target.transport.run([*argv, f"--database={maintenance}"], env=env)
    if done.code != 0:
        raise failure("pg_dumpall", done.code, done.stderr.decode("utf-8", "replace"))
    return done.stdout


_SECRET_SETTINGS = re.compile(r"(password\s*=\s*)('[^']*'|\S+)", re.IGNORECASE)


def configuration(session: Session) -> dict[str, Json]:
    """Settings that differ from the default, the rules of pg_hba.conf, extensions with versions.

    What the role may not see is named in "unreadable" instead of being left out without a word.
    """
    found: dict[str, Json] = {}
    unreadable: list[Json] = []
    questions: Mapping[str, str] = {
        "settings": "SELECT name, setting, unit, source, sourcefile, sourceline, context FROM pg_settings"
        " WHERE source NOT IN ('default', 'client', 'session', 'override') ORDER BY name",
        "extensions": "SELECT extname::text AS name, extversion AS version FROM pg_extension ORDER BY 1",
        "hba": "SELECT * FROM pg_hba_file_rules ORDER BY line_number",
    }
    for name, sql in questions.items():
        try:
            found[name] = [dict(row) for row in session.rows(sql)]
        except OpsError as error:
            if error.code != "not_permitted":
                raise
            unreadable.append(name)
    found["unreadable"] = unreadable
    # primary_conninfo and archive commands may carry a password
    cleaned: dict[str, Json] = json.loads(_SECRET_SETTINGS.sub(r"\1'***'", json.dumps(found)))
    return cleaned


def listing(target: Target, version: int, archive: str) -> str:
    """What pg_restore --list says of an archive on the far side."""
    done = target.transport.run([target.tool("pg_restore", version), "--list", archive])
    if done.code != 0:
        said = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
        raise incomplete(f"pg_restore cannot list it ({said})")
    return done.stdout.decode("utf-8", "replace")


class StreamReader:
    """Lets pg_restore read a custom-format stream while it passes by, and counts the rows it finds in it.

    A stream that ends early makes pg_restore fail; one that lacks whole rows makes the counts differ.
    """

    def __init__(self, target: Target, version: int) -> None:
        argv = [target.tool("pg_restore", version), "--data-only", "--file=-"]
        self._process = target.transport.start(argv, stdin=True)
        self.copies = CopyRows()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        stdout = self._process.stdout
        if stdout is not None:
            with contextlib.suppress(ValueError, OSError):
                for chunk in iter(lambda: stdout.read(CHUNK), b""):
                    self.copies.feed(chunk)

    def watch(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The chunks, unchanged; raises at their end when pg_restore could not read them to the end."""
        stdin = self._process.stdin
        if stdin is None:
            raise OpsError("transport_failed", "The transport gave no input stream.", "Report this as a defect.")
        alive = True
        for chunk in chunks:
            if alive:
                try:
                    stdin.write(chunk)
                except BrokenPipeError:  # its exit code, looked at below, says why
                    alive = False
            yield chunk
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        code = self._process.wait()
        self._thread.join()
        if code != 0:
            said = self._process.stderr_text().strip().split("\n")[-1]
            raise incomplete(f"pg_restore cannot read it to the end ({said})")

    def close(self) -> None:
        self._process.kill()
        self._thread.join(5)


def incomplete(how: str, details: Mapping[str, object] | None = None) -> OpsError:
    """The dump is not whole although its tool exited 0."""
    return OpsError(
        "dump_incomplete",
        f"pg_dump exited 0, but its dump is not whole: {how}.",
        "Nothing was kept. Look for a wrapper around pg_dump or a cut connection, then run the verb again.",
        details,
    )
