# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a migration works: sessions, the fence, the store, and the proofs that must be there before it begins."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.marks import proof_level
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migration_files import Migration, seconds
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import PROOFS
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import locks
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import read_server, refuse_pooler
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.ledger import Ledger
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import end_leftovers, mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.migrate import Hands, Limits
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render
from ansible_collections.saasops.runbook.plugins.module_utils.store import rehearsals, sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store

LOCK_WAIT_SECONDS = 10.0


@dataclass(frozen=True)
class Place:
    """What a migration works with.

    reader: a session of the database, for reading. hand: one of the maintenance database that holds the fence and
    cancels. live: the database that the files are meant for; another one than database in a rehearsal.
    """

    params: Mapping[str, object]
    context: Context
    system: str
    database: str
    live: str
    target: Target
    store: Store
    reader: Session
    hand: Session
    ledger: Ledger
    limits: Limits
    run: str

    @property
    def rehearsing(self) -> bool:
        return self.params.get("state") == "rehearsed"

    def hands(self) -> Hands:
        """For postgres/migrate.py."""
        return Hands(
            connect=lambda: self.target.session(self.database),
            hand=self.hand,
            jitter=random.SystemRandom().random,
            progress=self.context.progress,
        )

    def begin(self) -> list[str]:
        """Take the fence, and end what a dead run left at work; sentences. Raises OpsError database_busy."""
        locks.hold(self.hand, self.system, self.database, LOCK_WAIT_SECONDS)
        # the ledger's own commits must not hang on a standby that is away
        self.reader.run("SET synchronous_commit = local")
        mark = self.target.connection.application_name
        said = end_leftovers(self.target, self.hand, mark, [self.reader.pid])
        _gone(self.hand, mark, [self.reader.pid])
        return said

    def confirm(self, *, lease: bool = True) -> None:
        """Right before each point of no return: the lease (when it is to be looked at) and the fence are still ours."""
        if lease:
            self.context.admission.confirm()
        locks.confirm(self.hand, self.system, self.database)


def _gone(session: Session, mark: str, own: Sequence[int]) -> None:
    """Wait for backends that were ended: what they had begun is rolled back only then."""
    query = render(
        "SELECT count(pg_sleep(0.05)) AS left FROM pg_stat_activity WHERE application_name = {mark}"
        " AND pid <> ALL ({own}) AND pid <> pg_backend_pid()",
        mark=mark,
        own=list(own) or [0],
    )
    for _try in range(400):
        if not session.value(query):
            return
    raise OpsError(
        "leftovers_stay",
        "A session of an interrupted run is still at work and does not end.",
        "Wait for it, or end it (verb sessions), and run the verb again.",
    )


def _limits(params: Mapping[str, object]) -> Limits:
    given = {
        name: str(params[name]) for name in ("lock_limit", "lock_timeout", "lock_wait", "limit") if params.get(name)
    }
    found = {name: seconds(value, name) for name, value in given.items()}
    if not all(value > 0 for value in found.values()):
        raise OpsError("bad_duration", "A limit of 0 is none.", "Give lengths of time above 0, such as 500ms or 5s.")
    return Limits(**found)


def own_run(now: float, randomness: Callable[[int], bytes] = os.urandom) -> str:
    """An id for a run that no guard gave one."""
    from datetime import datetime, timezone

    return f"{datetime.fromtimestamp(now, timezone.utc):%Y%m%dT%H%M%SZ}-{randomness(4).hex()}"


@contextlib.contextmanager
def standing(params: dict[str, object], context: Context) -> Iterator[Place]:
    """Connect. Raises OpsError: the server's, the store's, pooled_connection, in_recovery."""
    system, database = str(params["system"]), str(params["database"])
    limits = _limits(params)
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=not context.check_mode)
    anyone = Target.from_params(cast("dict[str, object]", params["connection"]))
    holder = anyone.named(mark_of("migrate-guard", system, database))
    with contextlib.ExitStack() as stack:

        def connect(server: Target, name: str | None = None) -> Session:
            session = server.session(name)
            stack.callback(session.close)
            return session

        hand = connect(holder)
        reader = connect(holder, database)
        with contextlib.closing(holder.session(database)) as other:
            refuse_pooler(reader, other)
        if reader.value("SELECT pg_is_in_recovery()"):
            raise OpsError("in_recovery", "The server is a standby: nothing can be changed there.", "Name the primary.")
        target = anyone.named(mark_of("migrate", system, database, read_server(reader)))
        yield Place(
            params=params,
            context=context,
            system=system,
            database=database,
            live=str(params.get("rehearses") or database),
            target=target,
            store=store,
            reader=reader,
            hand=hand,
            ledger=Ledger(str(params.get("ledger_schema") or "saasops")),
            limits=limits,
            run=context.run or own_run(context.now),
        )


def digest_of(parts: Sequence[str]) -> str:
    """One SHA-256 (hex) for several texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def record_of(place: Place, migration: Migration) -> str:
    """The key under which a rehearsal of this very migration, undo and verify scripts included, is on record."""
    scripts = [one.text if one else "" for one in (migration.script, migration.undo, migration.verify)]
    return rehearsals.key(place.system, place.live, migration.version, digest_of(scripts))


def _age(place: Place) -> float | None:
    """Seconds since the newest proven set of the whole database."""
    found = [
        entry.manifest.snapshot_at
        for entry in sets.entries(place.store, place.system)
        if entry.state == "complete"
        and entry.manifest is not None
        and entry.manifest.database == place.live
        and entry.manifest.kind == "database"
        and not entry.manifest.undo
        and proof_level(entry.manifest.proof, entry.proofs) in PROOFS
    ]
    return place.context.now - max(found) if found else None


def against_backup(place: Place) -> list[OpsError]:
    """Why it may not begin without another backup."""
    if place.params.get("backup") == "off":
        return []
    longest = parse_duration(str(place.params.get("backup_max_age") or "1h"), "backup_max_age")
    age = _age(place)
    if age is not None and age <= longest:
        return []
    cause = "no proven set" if age is None else f"a proven set of {human_duration(age)} ago only"
    return [
        OpsError(
            "backup_too_old",
            f"The store holds {cause} of {place.live}; the newest must not be older than {human_duration(longest)}.",
            "Run the verb backup first (the verb migrate does it by itself), or say backup=off.",
            {"age": age, "backup_max_age": longest},
        )
    ]


def against_rehearsal(place: Place, records: Mapping[str, str], what: str) -> list[OpsError]:
    """Why it may not begin without a rehearsal; records: title -> key of what is to run."""
    if place.params.get("staging") == "off":
        return []
    longest = parse_duration(str(place.params.get("staging_max_age") or "24h"), "staging_max_age")
    missing = []
    for title, record in records.items():
        at = rehearsals.rehearsed_at(place.store, record)
        if at is None or place.context.now - at > longest:
            missing.append(title)
    if not missing:
        return []
    return [
        OpsError(
            "not_rehearsed",
            f"{', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}: {what} did not run on a copy in the "
            f"last {human_duration(longest)}, as it is now.",
            "Let the verb migrate restore the newest set beside and run it there first (staging=scratch), or say "
            "staging=off.",
            {"missing": missing},
        )
    ]


def tell_switched_off(place: Place) -> None:
    """What was switched off explicitly goes on record."""
    for name, code in (("backup", "backup_off"), ("staging", "staging_off")):
        if place.params.get(name) == "off":
            place.context.admission.says("bypass", {"code": code, "cause": f"{name}=off was said for this migration."})
