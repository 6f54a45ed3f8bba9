# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease of a guarded module: taken before its first act, renewed while it works, looked at before what is final."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.admitted_chronicle import Chronicle
from ansible_collections.saasops.runbook.plugins.module_utils.admitted_ground import Ground, names
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import Holder
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease_rules import Ask, held
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_runs import INTERRUPTED
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases

# how much of the ttl passes before a long module renews
RENEWALS_PER_TTL = 3


class Holding:
    """The lease that the request names ("" for none). token: 0 while it is not held. interrupted: whom it followed."""

    def __init__(self, ground: Ground, chronicle: Chronicle) -> None:
        self._ground, self._chronicle = ground, chronicle
        self.name = str(ground.body.get("lease") or "")
        self.token = 0
        self.interrupted: list[str] = []
        self._stop = threading.Event()
        self._lost: OpsError | None = None

    def _holder(self) -> Holder:
        body = self._ground.body
        return Holder(
            operator=self._ground.request.operator,
            controller=str(body.get("controller") or ""),
            boot_id=str(body.get("boot_id") or ""),
            pid_namespace=str(body.get("pid_namespace") or ""),
            pid=int(str(body.get("pid") or 0)),
            process_started=int(str(body.get("process_started") or 0)),
        )

    def acquire(self, name: str, hosts: tuple[str, ...]) -> int:
        """The token of a lease that all these hosts of the run are in. Raises OpsError lease_held, the store's."""
        ground = self._ground
        body, request = ground.body, ground.request
        tokens = cast("dict[str, int]", body.get("tokens") or {})
        ask = Ask(
            name=name,
            run=request.run,
            host=ground.host if ground.host in hosts else hosts[0],
            holder=self._holder(),
            verb=request.verb.name,
            verb_class=request.verb.verb_class,
            hosts=hosts,
            reason=str(body.get("reason") or ""),
            ttl=int(ground.policy.lease_ttl),
            token=int(tokens.get(name, 0)),
            dead=frozenset(names(body.get("dead_runs"))),
        )
        lease = Leases(ground.store).acquire(ask, time.time(), float(str(body.get("lease_wait") or 0)))
        if lease.took_over and lease.run == request.run and lease.number == lease.token:
            cause = f"Run {lease.took_over} held {name} and was interrupted ({lease.took_over_why}); this run goes on."
            self.interrupted.append(cause)
            facts = {"code": INTERRUPTED, "of": lease.took_over, "cause": cause}
            self._chronicle.unwritten.append(self._chronicle.event("note", facts))
        return lease.token

    def take(self) -> None:
        """Take the module's own lease and keep it. Raises as acquire() does, what break glass goes past excepted."""
        if not self.name:
            return
        with self._ground.tolerating("no lease could be taken"):
            self.token = self.acquire(self.name, (self._ground.host,))
            threading.Thread(target=self._renew, daemon=True, name="saasops-lease").start()

    def of_others(self) -> list[OpsError]:
        """Why it could not be taken now; looks only."""
        if not self.name:
            return []
        view, now = Leases(self._ground.store).look(self.name), time.time()
        if view.lease is None or view.state(now) != "held" or view.lease.run == self._ground.request.run:
            return []
        return [held(view, view.lease, now, view.remaining(now))]

    def _renew(self) -> None:
        """Keep the lease while a long module works; a loss is told at the next point of no return."""
        while not self._stop.wait(self._ground.policy.lease_ttl / RENEWALS_PER_TTL):
            try:
                self._still_ours()
            except OpsError as error:
                if error.code == "lease_lost":
                    self._lost = error
                    return

    def _still_ours(self) -> None:
        ground = self._ground
        Leases(ground.store).confirm(self.name, ground.request.run, self.token, ground.host)

    def confirm(self) -> None:
        """Raises lease_lost, and the store's errors unless break glass goes past them."""
        if self._lost is not None:
            raise self._lost
        if not self.token:
            return
        try:
            self._still_ours()
        except OpsError as error:
            if error.code == "lease_lost" or not self._ground.go_past(error, "the lease could not be looked at again"):
                raise

    def give_back(self, *, failed: bool = True) -> None:
        """This host is through; of a run that was decided over all hosts, only one that failed leaves."""
        self._stop.set()
        ground = self._ground
        if self.token and (failed or not ground.body.get("envelope")):
            with contextlib.suppress(OpsError):
                Leases(ground.store).leave(self.name, ground.request.run, ground.host, time.time())
        self.token = 0
