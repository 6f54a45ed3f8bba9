# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guard costs, and how soon a verb of class response acts, beside the bare command."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import yaml

from ansible_collections.saasops.runbook.benchmarks.pairs import Goal, Value
from ansible_collections.saasops.runbook.benchmarks.playbooks import Playbooks
from ansible_collections.saasops.runbook.benchmarks.programs import COLLECTIONS, FailedError
from ansible_collections.saasops.runbook.benchmarks.row import Row, interleave
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, new_id
from ansible_collections.saasops.runbook.plugins.module_utils.store import journal
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts, demo, postgres, scratch

DATABASE, MEGABYTES, VERSION = "demo", 20.0, 18
GUARDED, BARE = "backup, guarded", "backup, not routed to admission"
ON, OFF = "20 other tasks, callback on", "20 other tasks, callback off"
HOLD, UNDO, SESSIONS = "hold", "undo", "sessions"
RAW_HOLD, RAW_UNDO = "psql: CONNECTION LIMIT 0", "psql: two RENAMEs"
RAW_SESSIONS = "psql: pg_terminate_backend"
FORGOTTEN = "forgotten"
TASKS = 20
WITNESS = "saasops.runbook.witness"
# the records of a run with one guarded module: its beginning and intent, its outcome
RECORDS = 3


class _Place:
    """A small database, its store, and the collection twice: as it is, and without the routes to admission."""

    def __init__(self, server: postgres.Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        (folder / "store").mkdir()
        variables = {
            "saasops_system": f"guard-{os.getpid()}",
            "saasops_database": DATABASE,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"type": "posix", "path": str(folder / "store")},
            "saasops_session_policies": [
                # the lab's login is a superuser, who has to be named
                {"name": FORGOTTEN, "idle_over": "0s", "application": FORGOTTEN, "user": server.user}
            ],
        }
        self.guarded = Playbooks(_made(folder / "guarded"), variables)
        plain = {**variables, "saasops_store": {"type": "posix", "path": str(_made(folder / "plain-store"))}}
        self.bare = Playbooks(_made(folder / "bare"), plain, _unrouted(folder / "collections"))
        tasks = [{"name": f"Task {number}", "ansible.builtin.command": {"argv": ["true"]}} for number in range(TASKS)]
        self.book = folder / "tasks.yml"
        backup = {"ansible.builtin.include_role": {"name": "saasops.runbook.database_backup"}}
        play = {"hosts": "all", "gather_facts": False, "tasks": [backup, *tasks]}
        self.book.write_text(yaml.safe_dump([play]), encoding="utf-8")

    def backup(self, side: Playbooks) -> tuple[float, Mapping[str, Value]]:
        seconds = side.play("saasops.runbook.backup")
        facts: dict[str, Value] = {"tasks": side.tasks}
        if side is self.guarded:
            spent = self._journal()
            facts.update(journal=round(spent, 4), journal_share=round(spent / seconds, 4))
        return seconds, facts

    def _journal(self) -> float:
        """Seconds that the records of such a run take, written as the module writes them: first two, then one."""
        store = PosixStore(str(self.folder / "store"))
        events = [
            Event("note", time.time(), new_id(os.urandom(16)), "bench", "", {"text": "x" * 500})
            for _number in range(RECORDS)
        ]
        began = time.monotonic()
        journal.append(store, events[:2])
        journal.append(store, events[2:])
        return time.monotonic() - began

    def others(self, callback: bool) -> tuple[float, Mapping[str, Value]]:
        enabled = {"ANSIBLE_CALLBACKS_ENABLED": WITNESS} if callback else {}
        return self.guarded.play(str(self.book), **enabled), {}

    def first_effect(self, seen: str, act: Callable[[], object]) -> tuple[float, Mapping[str, Value]]:
        """Seconds from the start of act until the query gives true. Raises FailedError when it never does."""
        with _watched(self.server, seen) as watch:
            act()
            watch.seen_by(time.monotonic() + 2)
        if watch.effect is None:
            raise FailedError(f"never true: {seen}")
        return watch.effect, {"effect": round(watch.effect, 3)}

    def forgotten_ended(self, act: Callable[[], object]) -> tuple[float, Mapping[str, Value]]:
        """Seconds until a session that forgot its transaction is gone."""
        with contextlib.closing(psycopg2.connect(self.server.dsn(DATABASE), application_name=FORGOTTEN)) as client:
            with client.cursor() as cursor:
                cursor.execute("SELECT 1")
            return self.first_effect(
                f"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = '{FORGOTTEN}')", act
            )

    def psql(self, *statements: str) -> None:
        """As an operator would type it into psql."""
        argv = [str(self.server.bin / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres"]
        argv += [part for statement in statements for part in ("-c", statement)]
        subprocess.run(argv, env=self.server.environment(), check=True, capture_output=True, timeout=60)


class _Watch:
    """Asks every 10 ms, from its making on."""

    def __init__(self, server: postgres.Server, seen: str) -> None:
        self.effect: float | None = None
        self._connection, self._seen = server.connect("postgres"), seen
        self._ending = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        with self._connection.cursor() as cursor:
            while not self._ending.wait(0.01):
                cursor.execute(self._seen)
                row = cursor.fetchone()
                if row is not None and row[0]:
                    self.effect = time.monotonic() - self._began
                    return

    def seen_by(self, deadline: float) -> None:
        """Give what has been done until then (monotonic seconds) to be seen."""
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def end(self) -> None:
        self._ending.set()
        self._thread.join()
        self._connection.close()


@contextmanager
def _watched(server: postgres.Server, seen: str) -> Iterator[_Watch]:
    watch = _Watch(server, seen)
    try:
        yield watch
    finally:
        watch.end()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _unrouted(folder: Path) -> Path:
    """A copy of the collection whose modules Ansible starts by itself."""
    source = COLLECTIONS / "ansible_collections" / "saasops" / "runbook"
    copy = folder / "ansible_collections" / "saasops" / "runbook"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("tests", "benchmarks", "docs", ".*"))
    runtime = copy / "meta" / "runtime.yml"
    body = yaml.safe_load(runtime.read_text(encoding="utf-8"))
    del body["plugin_routing"]
    runtime.write_text(yaml.safe_dump(body), encoding="utf-8")
    return folder


@contextmanager
def _place() -> Iterator[_Place]:
    folder = scratch.claim("guard")
    try:
        with postgres.running(VERSION, durable=True) as server:
            demo.create(server, DATABASE, parameters=demo.Parameters(MEGABYTES))
            yield _Place(server, folder)
    finally:
        scratch.release(folder)


def measure(pairs: int, tell: Callable[[str], None]) -> list[Row]:
    with _place() as place:
        for side in (place.guarded, place.bare):
            side.play("saasops.runbook.backup")  # the first run of each fills caches
        cost = interleave(
            {BARE: lambda: place.backup(place.bare), GUARDED: lambda: place.backup(place.guarded)},
            pairs,
            tell,
            _nothing,
        )
        others = interleave({OFF: lambda: place.others(False), ON: lambda: place.others(True)}, pairs, tell, _nothing)
        return [
            Row(
                "guard",
                "What the guard costs",
                cost,
                [
                    Goal("seconds more than", BARE, 5.0, GUARDED),
                    Goal("at most", "journal_share", 0.03, GUARDED),
                ],
                [
                    f"The verb backup by ansible-playbook on a database of {MEGABYTES:.0f} MB, the store a folder. The"
                    " other side is the same collection whose meta/runtime.yml routes nothing to admission: no run, no"
                    " lease, no intent, no journal.",
                    f"Tasks of the run: {_tasks(cost, GUARDED)} guarded, {_tasks(cost, BARE)} bare.",
                    f"Journal: the time to write {RECORDS} records as a run does, as a share of the whole run. A longer"
                    " run writes no more.",
                ],
            ),
            Row(
                "witness",
                "What the journal's callback costs",
                others,
                [Goal("faster than", OFF, 0.97, ON)],
                [f"A backup and {TASKS} changed tasks of ansible.builtin.command, which the callback keeps."],
            ),
            _response(place, pairs, tell),
        ]


def _nothing() -> None:
    """Nothing has to be put back between two runs."""


def _tasks(samples: object, side: str) -> str:
    found = {item.facts.get("tasks") for item in samples if item.side == side}  # type: ignore[attr-defined]
    return ", ".join(sorted(str(count) for count in found))


def _response(place: _Place, pairs: int, tell: Callable[[str], None]) -> Row:
    held = f"SELECT datconnlimit = 0 FROM pg_database WHERE datname = '{DATABASE}'"
    original = place.server.psql(f"SELECT oid FROM pg_database WHERE datname = '{DATABASE}'")
    back = f"SELECT oid = {original} FROM pg_database WHERE datname = '{DATABASE}'"
    playbooks = place.guarded

    limit = f'ALTER DATABASE "{DATABASE}" CONNECTION LIMIT 0'

    terminate = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE state = 'idle in transaction' AND application_name = '{FORGOTTEN}'"
    )

    def free() -> None:
        place.psql(f'ALTER DATABASE "{DATABASE}" CONNECTION LIMIT -1')
        playbooks.play("saasops.runbook.hold", "-e", "state=released")

    def switched() -> None:
        now = place.server.psql(f"SELECT oid FROM pg_database WHERE datname = '{DATABASE}'")
        if now == original:
            playbooks.play("saasops.runbook.restore", "-e", "switch=true")

    def by_hand() -> None:
        aside = place.server.psql(f"SELECT datname FROM pg_database WHERE oid = {original}")
        place.psql(
            f'ALTER DATABASE "{DATABASE}" RENAME TO "{DATABASE}_newer"',
            f'ALTER DATABASE "{aside}" ALLOW_CONNECTIONS true',
            f'ALTER DATABASE "{aside}" RENAME TO "{DATABASE}"',
        )

    def after_hand() -> None:
        # as it was before: the verb's record says that the restored database is live
        aside = playbooks.folder / "aside"
        if aside.is_file():
            place.psql(
                f'ALTER DATABASE "{DATABASE}" RENAME TO "{aside.read_text(encoding="utf-8")}"',
                f'ALTER DATABASE "{DATABASE}_newer" RENAME TO "{DATABASE}"',
            )
            aside.unlink()

    def raw_undo() -> tuple[float, Mapping[str, Value]]:
        switched()
        aside = place.server.psql(f"SELECT datname FROM pg_database WHERE oid = {original}")
        (playbooks.folder / "aside").write_text(aside, encoding="utf-8")
        found = place.first_effect(back, by_hand)
        after_hand()
        return found

    def undo() -> tuple[float, Mapping[str, Value]]:
        switched()
        return place.first_effect(back, lambda: playbooks.play("saasops.runbook.undo", "-e", "acknowledge_loss=0"))

    sides = {
        RAW_HOLD: lambda: place.first_effect(held, lambda: place.psql(limit)),
        HOLD: lambda: place.first_effect(held, lambda: playbooks.play("saasops.runbook.hold", "-e", "reason=bench")),
        RAW_UNDO: raw_undo,
        UNDO: undo,
        RAW_SESSIONS: lambda: place.forgotten_ended(lambda: place.psql(terminate)),
        SESSIONS: lambda: place.forgotten_ended(
            lambda: playbooks.play("saasops.runbook.sessions", "-e", f"policy={FORGOTTEN}")
        ),
    }
    samples = interleave(sides, pairs, tell, free)
    return Row(
        "response",
        "How soon a verb of class response acts",
        samples,
        [Goal("at most", "effect", 10.0, side) for side in (HOLD, UNDO, SESSIONS)],
        [
            "From the start of ansible-playbook (or psql) until another session, which asks every 10 ms, sees the"
            " effect: the connection limit, the live name on the database of before, or a session that is gone. Ours"
            " has then recorded what it opens, taken its lease and written its intent; the host is the controller"
            " itself.",
            "The bare commands prove nothing, hold off nobody, and fail while a client is connected.",
        ],
    )
