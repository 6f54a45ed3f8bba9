# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same faults through thirty lines of upstream modules and through this collection, side by side.

Both run through ansible-playbook, each case on a copy of the same small database; what they say is read from
their results, what is true is asked from psql. Nothing in the table is written down beforehand.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
# in a checkout the collection is laid out below it; the laid-out tree is that place itself
COLLECTIONS = ROOT.parents[2] if ROOT.parts[-3:] == ("ansible_collections", "saasops", "runbook") else ROOT
for place in (COLLECTIONS, ROOT / "tools"):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

from ansible_run import Said, UnusableError, run  # noqa: E402
from comparison_faults import STRANGER, admit_only_the_application, cutting_programs, flip_a_bit  # noqa: E402
from comparison_look import Sight, look, siblings  # noqa: E402

if TYPE_CHECKING:
    from ansible_collections.saasops.runbook.tests.lab.postgres import Server

MEGABYTES = 2
OURS = "saasops.runbook"
# the format that the upstream module's own example of a compressed dump has, and the better one
SCRIPT, ARCHIVE = "thirty lines, .sql.gz", "thirty lines, .pgc"
APPROACHES = {SCRIPT: "sqlgz", ARCHIVE: "pgc", OURS: "ours"}
SUFFIX = {SCRIPT: "sql.gz", ARCHIVE: "pgc"}
CASES = ("whole", "cut", "flipped")
TITLES = {
    "none": "no fault: the rows",
    "cut": "the dump is cut at 60\N{NO-BREAK SPACE}%, pg_dump exits 0",
    "flipped": "one bit flips in the store",
    "grant": "no fault: the database's grants and settings",
}
CASE_OF = {"none": "whole", "cut": "cut", "flipped": "flipped", "grant": "whole"}


@dataclass(frozen=True)
class Row:
    """One cell of the table: a fault (none, cut, flipped, grant) through one approach.

    backup, restore: what the tool said; restore is None when there was nothing to restore.
    noticed: the step that failed (backup, restore), or "" when every step said success.
    before: what was true of the live database before anything was done.
    live: what is true of the database that carries the live name now: the restored one unless something failed.
    half: what is true of the database that a failed restore left beside it; None when there is none.
    stored: number of files that are in the store afterwards.
    """

    fault: str
    approach: str
    backup: Said
    restore: Said | None
    noticed: str
    before: Sight
    live: Sight
    half: Sight | None
    stored: int

    @property
    def live_is_whole(self) -> bool:
        """Whether the live database is what it was before: rows, keys, who may log in and what the application sees."""
        return self.live == self.before

    @property
    def silent(self) -> bool:
        """Everything said success, and the live database is not what was backed up."""
        return not self.noticed and not self.live_is_whole


@dataclass(frozen=True)
class _Bench:
    """Where the comparison works: the server, a folder, and what every ansible-playbook is told."""

    server: Server
    work: Path
    environment: dict[str, str]
    programs: Path

    def database(self, approach: str, case: str) -> str:
        return f"comparison_{APPROACHES[approach]}_{case}"

    def store(self, approach: str, case: str) -> Path:
        return self.work / "stores" / APPROACHES[approach] / case

    def client_bin(self, case: str) -> str:
        return str(self.programs if case == "cut" else self.server.bin)


def compare(server: Server, work: Path) -> list[Row]:
    """Run every case on databases of its own, which are dropped again; logs and stores stay in work (a new folder).

    Raises ansible_run.UnusableError when ansible-playbook itself does not work.
    """
    work.mkdir(parents=True)
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "PGPASSFILE": str(server.passfile)}
    bench = _Bench(server, work, environment, cutting_programs(server.bin, work / "cutting"))
    with _databases(bench) as before, ThreadPoolExecutor(2) as pool:
        upstream = pool.submit(_upstream, bench)
        own = pool.submit(_own, bench)
        said = {**upstream.result(), **own.result()}
        seen: dict[str, Sight] = {}
        return [
            _row(bench, fault, approach, said[approach, case], before, seen)
            for fault, case in CASE_OF.items()
            for approach in APPROACHES
        ]


@contextlib.contextmanager
def _databases(bench: _Bench) -> Iterator[Sight]:
    """A copy of the small database for every case of every approach; gives what is true of it. All are dropped."""
    from ansible_collections.saasops.runbook.tests.lab import demo

    server = bench.server
    source = "comparison_source"
    _drop_all(server)
    admit_only_the_application(server)
    try:
        demo.create(server, source, parameters=demo.Parameters(MEGABYTES))
        for approach in APPROACHES:
            for case in CASES:
                server.createdb(bench.database(approach, case), template=source)
                demo.apply_database_settings(server, bench.database(approach, case))
        yield look(server, source)
    finally:
        _drop_all(server)


def _drop_all(server: Server) -> None:
    for name in server.psql(r"SELECT datname FROM pg_database WHERE datname LIKE 'comparison\_%'").split():
        server.dropdb(name)
    server.psql(f"DROP ROLE IF EXISTS {STRANGER}")


_Runs = dict[tuple[str, str], tuple[Said, "Said | None"]]


def _upstream(bench: _Bench) -> _Runs:
    """Back up and restore every case through examples/thirty_lines.yml, both formats in one run."""
    hosts: dict[str, dict[str, object]] = {}
    keys: dict[str, tuple[str, str]] = {}
    dumps = bench.work / "dumps"
    dumps.mkdir()
    for approach, suffix in SUFFIX.items():
        for case in CASES:
            name = bench.database(approach, case)
            bench.store(approach, case).mkdir(parents=True)
            keys[name] = approach, case
            hosts[name] = {
                "db": name,
                "db_owner": "demo_owner",
                "dump": str(dumps / f"{name}.{suffix}"),
                "store": str(bench.store(approach, case)),
                "pg_bin": bench.client_bin(case),
                "pg_host": bench.server.host,
                "pg_port": bench.server.port,
                "pg_user": bench.server.user,
            }
    playbook = str(ROOT / "examples" / "thirty_lines.yml")
    backup = run(playbook, hosts, ["--tags", "backup"], bench.work, "upstream-backup", bench.environment)
    return _restored(bench, keys, backup, playbook, hosts, ["--tags", "restore"], "upstream-restore")


def _own(bench: _Bench) -> _Runs:
    """Back up, restore and switch every case through the verbs of this collection."""
    hosts: dict[str, dict[str, object]] = {}
    keys: dict[str, tuple[str, str]] = {}
    for case in CASES:
        name = bench.database(OURS, case)
        keys[name] = OURS, case
        hosts[name] = {
            "saasops_database": name,
            "saasops_connection": {
                "host": bench.server.host,
                "port": bench.server.port,
                "user": bench.server.user,
                "client_bin": bench.client_bin(case),
            },
            "saasops_store": {"path": str(bench.store(OURS, case)), "create": True},
        }
    bench.store(OURS, "any").parent.mkdir(parents=True)
    backup = run("saasops.runbook.backup", hosts, [], bench.work, "own-backup", bench.environment)
    playbook = "saasops.runbook.restore"
    return _restored(bench, keys, backup, playbook, hosts, ["-e", "switch=true"], "own-restore")


def _restored(
    bench: _Bench,
    keys: dict[str, tuple[str, str]],
    backup: dict[str, Said],
    playbook: str,
    hosts: dict[str, dict[str, object]],
    arguments: Sequence[str],
    name: str,
) -> _Runs:
    """Restore what was backed up, after a bit has flipped; what both steps said."""
    for host, (approach, case) in keys.items():
        if case == "flipped" and backup[host].ok:
            flip_a_bit(bench.store(approach, case))
    left = {host: variables for host, variables in hosts.items() if backup[host].ok}
    restore = run(playbook, left, arguments, bench.work, name, bench.environment) if left else {}
    return {key: (backup[host], restore.get(host)) for host, key in keys.items()}


def _row(
    bench: _Bench, fault: str, approach: str, said: tuple[Said, Said | None], before: Sight, seen: dict[str, Sight]
) -> Row:
    backup, restore = said
    name = bench.database(approach, CASE_OF[fault])
    noticed = "backup" if not backup.ok else "restore" if restore is None or not restore.ok else ""
    beside = siblings(bench.server, name) if noticed else []
    for database in [name, *beside]:
        if database not in seen:
            seen[database] = look(bench.server, database)
    return Row(
        fault=fault,
        approach=approach,
        backup=backup,
        restore=restore,
        noticed=noticed,
        before=before,
        live=seen[name],
        half=seen[beside[0]] if beside else None,
        stored=stored(bench.store(approach, CASE_OF[fault])),
    )


def stored(store: Path) -> int:
    """Files of backups; what the guard keeps beside them (journal, leases) says that none was made."""
    kept = ("journal", "leases", "plans", "open")
    files = (path.relative_to(store) for path in store.rglob("*") if path.is_file())
    return sum(path.parts[0] not in kept for path in files)


def cell(row: Row) -> str:
    """What a reader sees of a row: what was said, then what is true."""
    return f"{_said(row)} {_true(row)}"


def _said(row: Row) -> str:
    if not row.backup.ok:
        return f"backup REFUSED ({row.backup.code or 'failed'}):"
    if row.restore is None or row.restore.ok:
        return "backup: success, restore: success;"
    return f"backup: success, restore: {f'REFUSED ({row.restore.code})' if row.restore.code else 'FAILED'};"


def _true(row: Row) -> str:
    if row.noticed:
        live = "the live database is whole" if row.live_is_whole else "the live database is DAMAGED"
        if row.half:
            return f"what it left lacks {_lost(row, row.half) or 'no row'}; {live}."
        left = "the store stays empty" if not row.stored else "nothing half-made is left"
        return f"{left}, {live}."
    if row.fault == "grant":
        application = "the application works" if row.live.application_works else "the application's queries FAIL"
        stranger = "strangers are kept out" if row.live.stranger_kept_out else "strangers get IN"
        return f"{application}, {stranger}."
    lost = _lost(row, row.live)
    return f"the live database lacks {lost}." if lost else f"all {row.before.total:,} rows are as they were."


def _lost(row: Row, sight: Sight) -> str:
    rows, keys = sight.missing_rows(row.before), row.before.constraints - sight.constraints
    altered = sight.altered_tables(row.before)
    parts = [f"{rows:,} of {row.before.total:,} ROWS"] if rows else []
    parts += [f"{keys} keys"] if keys else []
    parts += [f"the right values in {altered} table{'s' if altered > 1 else ''}"] if altered else []
    return " and ".join(parts)


def table(rows: Sequence[Row], width: int = 0) -> str:
    """The table for a terminal of this width, in characters."""
    width = width or min(shutil.get_terminal_size((120, 24)).columns, 140)
    first = 22
    each = max(20, (width - first) // len(APPROACHES) - 3)
    cells = {(row.fault, row.approach): cell(row) for row in rows}
    lines = _line(["planted fault", *APPROACHES], first, each)
    lines.append("-" * first + ("-+-" + "-" * each) * len(APPROACHES))
    for fault, title in TITLES.items():
        lines += _line([title, *(cells[fault, approach] for approach in APPROACHES)], first, each)
        lines.append("-" * first + ("-+-" + "-" * each) * len(APPROACHES))
    return "\n".join(lines[:-1])


def _line(texts: Sequence[str], first: int, each: int) -> list[str]:
    columns = [textwrap.wrap(text, first if number == 0 else each) for number, text in enumerate(texts)]
    lines = []
    for position in range(max(len(column) for column in columns)):
        parts = [column[position] if position < len(column) else "" for column in columns]
        padded = [part.ljust(first if number == 0 else each) for number, part in enumerate(parts)]
        lines.append(" | ".join(padded).rstrip())
    return lines


def main() -> int:
    if COLLECTIONS == ROOT:
        from tree import lay_out

        lay_out(ROOT / "ansible_collections" / "saasops" / "runbook")
    from ansible_collections.saasops.runbook.tests.lab import postgres

    work = ROOT / ".cache" / "comparison"
    shutil.rmtree(work, ignore_errors=True)
    began = time.monotonic()
    with postgres.running(18) as server:
        try:
            rows = compare(server, work)
        except UnusableError as error:
            print(error, file=sys.stderr)
            return 1
    print(table(rows))
    print(f"\n{time.monotonic() - began:.0f} s; the logs are in {os.path.relpath(work)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
