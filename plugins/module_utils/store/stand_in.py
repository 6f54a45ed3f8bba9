# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Under break glass a folder of the host takes what the store cannot, until the store is back.

Every object is written to the folder first and moved on into the store when that takes it, so that what could not be
moved waits there, whole, and survives whatever ends the run. The next run of the same host and store moves it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import ObjectInfo, Store, Stored
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore

# on disk, and not emptied by a reboot; a folder of mode 0700 of the user who runs the module is made in it
PLACE = "/var/tmp"  # noqa: S108
# a store that says this does not answer, or takes nothing; all else is no matter of availability
DOWN = frozenset(
    {
        "store_unreachable",
        "store_missing",
        "store_denied",
        "bucket_missing",
        "host_unreachable",
        "host_key_changed",
        "host_key_unknown",
        "login_refused",
        "stream_cut",
    }
)
AWAY = DOWN | {"store_full", "store_not_writable"}
RECORDS = "restores/"

# tells a bypass; whether break glass allows it
GoPast = Callable[[OpsError, str], bool]


def folder_of(system: str, url: str, place: str = PLACE) -> str:
    """Where objects of one store wait on this host."""
    name = hashlib.sha256(f"{system}\n{url}".encode()).hexdigest()[:16]
    return f"{place}/saasops-waiting-{os.geteuid()}/{name}"


def _private(folder: str) -> PosixStore:
    """The folder as a store; others must not be able to put something into it. Raises OpsError stand_in_unsafe."""
    above = os.path.dirname(folder)
    with contextlib.suppress(FileExistsError):
        os.mkdir(above, 0o700)
    facts = os.lstat(above)
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise OpsError(
            "stand_in_unsafe",
            f"{above} is not a folder that belongs to this user alone.",
            "Remove it: what the store cannot take now is kept there.",
            {"path": above},
        )
    return PosixStore(folder, create=True)


def waiting(system: str, url: str) -> PosixStore | None:
    """The folder in which objects wait for this store; None when nothing waits. Raises OpsError stand_in_unsafe."""
    folder = folder_of(system, url)
    if not os.path.isdir(folder):
        return None
    found = _private(folder)
    return found if found.list("") else None


def bring(source: Store, store: Store) -> list[str]:
    """Move everything that waits into the store, what makes a set complete last; the keys. Raises its errors."""
    keys = sorted((info.key for info in source.list("")), key=lambda key: (key.endswith("/manifest.json"), key))
    for key in keys:
        with source.get(key) as chunks:
            store.put(key, chunks)
        source.delete([key])
    return keys


class StandIn:
    """See store.base.Store. go_past is asked for every error of the store that would be passed over."""

    def __init__(self, store: Store, system: str, go_past: GoPast) -> None:
        self._store = store
        self._folder = _private(folder_of(system, store.url))
        self._go_past = go_past
        self._away: OpsError | None = None
        # what neither the store nor the folder takes: small records only
        self._kept: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        """The store's own."""
        return self._store.url

    @property
    def is_down(self) -> bool:
        """Whether the store did not answer, not even to be read."""
        return self._away is not None and self._away.code in DOWN

    def _note(self, error: OpsError, what: str) -> None:
        """Remember that the store is away, or raise what break glass does not go past."""
        if error.code not in AWAY or not self._go_past(error, what):
            raise error
        self._away = error

    def check(self, write: bool) -> None:
        try:
            self._store.check(write)
        except OpsError as error:
            self._note(error, "the store was not available")
            return
        bring(self._folder, self._store)

    def put(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> Stored:
        if isinstance(chunks, (list, tuple)) and key.startswith(RECORDS):
            chunks = [b"".join(chunks)]
        try:
            kept = self._folder.put(key, chunks)
        except OpsError as error:
            if error.code not in AWAY or not isinstance(chunks, list) or not key.startswith(RECORDS):
                raise
            return self._put_small(key, chunks[0], error, if_absent)
        if self._away is not None:
            return kept
        try:
            with self._folder.get(key) as again:
                stored = self._store.put(key, again, if_absent=if_absent)
        except OpsError as error:
            if error.code == "object_exists":
                self._folder.delete([key])
            self._note(error, f"{key} waits in {self._folder.url}")
            return kept
        self._folder.delete([key])
        return stored

    def _put_small(self, key: str, body: bytes, why: OpsError, if_absent: bool) -> Stored:
        """The host's own disk is full as well: the store, or else the memory of this run."""
        if self._away is None:
            try:
                return self._store.put(key, [body], if_absent=if_absent)
            except OpsError as error:
                self._note(error, f"{key} is kept nowhere")
        if not self._go_past(why, f"{key} is kept nowhere"):
            raise why
        self._kept[key] = body
        return Stored(key, len(body), hashlib.sha256(body).hexdigest())

    def get(self, key: str) -> AbstractContextManager[Iterator[bytes]]:
        return self._get(key)

    @contextlib.contextmanager
    def _get(self, key: str) -> Iterator[Iterator[bytes]]:
        if key in self._kept:
            yield iter([self._kept[key]])
            return
        with contextlib.ExitStack() as stack:
            try:
                found = stack.enter_context(self._folder.get(key))
            except OpsError as error:
                if error.code not in ("object_missing", *AWAY):
                    raise
                self._refuse_unreadable()
                found = stack.enter_context(self._store.get(key))
            yield found

    def _refuse_unreadable(self) -> None:
        if self._away is not None and self._away.code in DOWN:
            raise OpsError(
                self._away.code,
                self._away.cause,
                f"{self._away.remedy} If the system has a second copy of its sets, take it from there: -e copy=1.",
                self._away.details,
            )

    def list(self, prefix: str) -> list[ObjectInfo]:
        found = {info.key: info for info in self._folder.list(prefix)}
        found.update({key: ObjectInfo(key, len(body), 0.0) for key, body in self._kept.items()})
        if not prefix.startswith(RECORDS):
            self._refuse_unreadable()
        if not self.is_down:
            try:
                found = {**{info.key: info for info in self._store.list(prefix)}, **found}
            except OpsError as error:
                self._note(error, "the store was not available")
                if not prefix.startswith(RECORDS):
                    self._refuse_unreadable()
        return [found[key] for key in sorted(found) if key.startswith(prefix)]

    def delete(self, keys: Iterable[str]) -> None:
        gone = list(keys)
        self._folder.delete(gone)
        for key in gone:
            self._kept.pop(key, None)
        if not self.is_down:
            self._store.delete(gone)

    def sweep(self, prefix: str, older_than: float) -> Sequence[str]:
        return [] if self.is_down else self._store.sweep(prefix, older_than)

    def free_bytes(self) -> int | None:
        return self._store.free_bytes() if self._away is None else self._folder.free_bytes()
