# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that ask for leases, as tests need them."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import TTL, Holder
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease_rules import Ask

NAME = "database:app"
HOLDER = Holder("anna", "ctl-1", "boot-1", "pid:[1]", 4711, 1234)


def ask(
    run: str,
    host: str = "db1",
    *,
    name: str = NAME,
    hosts: tuple[str, ...] = (),
    ttl: int = TTL,
    token: int = 0,
    dead: frozenset[str] = frozenset(),
) -> Ask:
    """The question of one host of a run; hosts: of the whole run, this one alone by default."""
    return Ask(
        name, run, host, HOLDER, "restore", "response", hosts or (host,), "a reason", ttl=ttl, token=token, dead=dead
    )
