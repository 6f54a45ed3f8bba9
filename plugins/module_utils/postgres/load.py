# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill a database from a dump in directory format, its ordinary tables by COPY FREEZE, everything else by pg_restore.

Rows that are frozen when they are written spare a restored database the VACUUM: pages are all-visible from the
start, and nothing rewrites them later to set hint bits or to freeze. pg_restore cannot write them so. It makes the
tables first and does all the rest afterwards, also every table that is not known to be a plain one.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.dump_toc import (
    EMPTY_BYTES,
    Entry,
    TableData,
    is_utf8,
    load_script,
    settings,
    split_listing,
    table_data,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.dump import failure
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import (
    listing,
    loading_options,
    run_pg_restore,
    without_publications,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Process

# what pg_restore itself sets before it loads rows
SETTINGS = (
    b"SET client_min_messages = warning;",
    b"SET xmloption = content;",
    b"SET row_security = off;",
    b"SELECT pg_catalog.set_config('search_path', '', false);",
)
# a table of an extension has rows of its own, and TRUNCATE would take them
_PLAIN_TABLES = (
    "SELECT n.nspname::text AS schema, c.relname::text AS name FROM pg_class c"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname !~ '^pg_'"
    " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid"
    " AND d.deptype = 'e')"
)


@dataclass(frozen=True)
class Source:
    """A dump on the far side: folder, its table of contents, and which of it is wanted."""

    folder: str
    entries: tuple[Entry, ...]
    schemas: tuple[str, ...]
    no_tablespaces: bool

    def tables(self) -> dict[str, TableData]:
        """Tables that COPY can load, by the name of their file."""
        return {item.file: item for item in table_data(self.entries)}


@dataclass
class Loader:
    """Loads one dump into one database, from several threads; end() ends what it runs, from any thread.

    env: target.environment of the database. loaded: schema and name of the tables that load() has filled.
    """

    target: Target
    database: str
    version: int
    source: Source
    jobs: int
    env: Mapping[str, str]
    plain: Mapping[str, TableData] = field(default_factory=dict)
    loaded: set[tuple[str, str]] = field(default_factory=set)
    _running: set[Process] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: bool = False

    def make_tables(self, tick: Callable[[], None]) -> list[str]:
        """Restore what comes before rows, and find out which tables can be loaded; returns pg_restore's warnings."""
        transport, dump = self.target.transport, self.source.folder
        tool = self.target.tool("pg_restore", self.version)
        chosen = [f"--schema={name}" for name in self.source.schemas]
        whole = listing(transport, tool, dump, *chosen)
        if chosen:
            whole = without_publications(whole)
        before = listing(transport, tool, dump, "--section=pre-data", *chosen)
        first, _rest = split_listing(whole, before, {})
        transport.write_file(f"{dump}.first", [first])
        said = self._pg_restore(f"{dump}.first", 1, tick)
        with contextlib.closing(self.target.session(self.database)) as session:
            self.plain = self._plain(session, whole)
        ids = {item.dump_id: None for item in self.plain.values()}
        transport.write_file(f"{dump}.rest", [split_listing(whole, before, ids)[1]])
        return said

    def _plain(self, session: Session, whole: bytes) -> dict[str, TableData]:
        present = {(str(row["schema"]), str(row["name"])) for row in session.rows(_PLAIN_TABLES)}
        listed = {line.partition(b";")[0] for line in whole.split(b"\n")}
        known = is_utf8(self.source.entries)
        found = {}
        for file, item in self.source.tables().items():
            names = _names(item, known)
            if names in present and b"%d" % item.dump_id in listed:
                found[file] = item
        return found

    def load(self, files: Mapping[str, int]) -> None:
        """Fill the plain tables among those whose files are named, with their lengths, and remove the files.

        Raises OpsError with psql's first error.
        """
        tables = [(self.plain[file], f"{self.source.folder}/{file}") for file in files if file in self.plain]
        if not tables:
            return
        filled = [item for item in tables if files[item[0].file] > EMPTY_BYTES]
        if filled:
            self._psql(filled)
        known = is_utf8(self.source.entries)
        with self._lock:
            self.loaded.update(_names(table, known) for table, _path in tables)
        self.target.transport.remove_files([path for _table, path in tables])

    def _psql(self, tables: Sequence[tuple[TableData, str]]) -> None:
        argv = [self.target.program("psql"), "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1"]
        argv += ["--output=/dev/null", "--file=-"]
        script = load_script([*settings(self.source.entries), *SETTINGS], tables)
        with self._started(argv, {**self.env, "PGOPTIONS": loading_options(self.jobs)}) as process:
            stdin, stdout = process.stdin, process.stdout
            if stdin is None or stdout is None:
                raise OpsError("transport_failed", "The transport gave no pipes.", "Report this as a defect.")
            # one that ended early says why by its exit code
            with contextlib.suppress(BrokenPipeError):
                stdin.write(script)
                stdin.close()
            stdout.read()
            code = process.wait()
        if code != 0:
            raise failure("psql", code, process.stderr_text())

    @contextlib.contextmanager
    def _started(self, argv: Sequence[str], env: Mapping[str, str]) -> Iterator[Process]:
        process = self.target.transport.start(argv, env=env, stdin=True)
        try:
            with self._lock:
                self._running.add(process)
                ended = self._ended
            if ended:
                process.kill()
            yield process
        finally:
            process.kill()
            with self._lock:
                self._running.discard(process)

    def end(self) -> None:
        """End whatever load() runs; those calls raise."""
        with self._lock:
            self._ended, running = True, list(self._running)
        for process in running:
            with contextlib.suppress(OpsError, subprocess.TimeoutExpired):
                process.kill()

    def finish(self, tick: Callable[[], None]) -> list[str]:
        """Restore all that load() did not: other data, indexes, constraints, grants; returns pg_restore's warnings."""
        return self._pg_restore(f"{self.source.folder}.rest", self.jobs, tick)

    def _pg_restore(self, entries: str, jobs: int, tick: Callable[[], None]) -> list[str]:
        return run_pg_restore(
            self.target,
            self.database,
            self.version,
            self.source.folder,
            jobs=jobs,
            schemas=self.source.schemas,
            no_tablespaces=self.source.no_tablespaces,
            tick=tick,
            entries=entries,
        )


def _names(item: TableData, utf8: bool) -> tuple[str, str]:
    """Schema and table as the catalog has them; names in other encodings are known as far as they are ASCII."""
    encoding = "utf-8" if utf8 else "ascii"
    # what cannot be read is no table's name, so that pg_restore loads it
    schema, name = (part.decode(encoding, "surrogateescape") for part in (item.schema, item.name))
    return schema, name
