# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a lease alive during long work, and proves it right before a point of no return."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import Lease
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases

# renewals in one ttl: two may fail before the third comes too late
PER_TTL = 3


class Keeper:
    """Renews in a thread. A store that does not answer is asked again; a lease that is lost is remembered."""

    def __init__(self, leases: Leases, name: str, run: str, token: int, host: str) -> None:
        self._leases = leases
        self._who = (name, run, token, host)
        self._lost: OpsError | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._every = 0.0

    def confirm(self) -> Lease:
        """Right before a point of no return: asks the store now. Raises lease_lost, and the store's errors."""
        if self._lost is not None:
            raise self._lost
        return self._leases.confirm(*self._who)

    def check(self) -> None:
        """Raise lease_lost when a renewal found it lost; asks nobody, so it may be called often."""
        if self._lost is not None:
            raise self._lost

    def start(self) -> None:
        """Prove the lease once, then keep renewing it."""
        self._every = self.confirm().ttl / PER_TTL
        self._thread.start()

    def stop(self) -> None:
        """End the renewals; the lease stays."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _renew(self) -> None:
        while not self._stopping.wait(self._every):
            try:
                self._leases.confirm(*self._who)
            except OpsError as error:
                if error.code == "lease_lost":
                    self._lost = error
                    return


@contextmanager
def keeping(leases: Leases, name: str, run: str, token: int, host: str) -> Iterator[Keeper]:
    """Prove a lease and keep it renewed while the block runs. Raises like Leases.confirm."""
    keeper = Keeper(leases, name, run, token, host)
    keeper.start()
    try:
        yield keeper
    finally:
        keeper.stop()
