# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What admission knows of each changing module: its verb, the verb's class, and what it must have to itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

READ, RESPONSE, ROUTINE = "read", "response", "routine"
CLASSES = (READ, RESPONSE, ROUTINE)


@dataclass(frozen=True)
class Verb:
    """name; verb_class; lease: what only one run at a time may work on ("" when it excludes nobody)."""

    name: str
    verb_class: str
    lease: str = ""


BACKUP = Verb("backup", ROUTINE, "database")
COPY = Verb("copy", ROUTINE)
PIN = Verb("pin", ROUTINE)
PRUNE = Verb("prune", ROUTINE, "sets")
RESTORE = Verb("restore", RESPONSE, "database")
RESTORE_TENANT = Verb("restore_tenant", RESPONSE, "database")
UNDO = Verb("undo", RESPONSE, "database")
FINISH = Verb("restore_finish", ROUTINE, "database")
# its own lease: a drill beside a backup harms neither
DRILL = Verb("restore_drill", ROUTINE, "drill")
# its own lease: clients must be kept out, and let in again, while a backup or a restore is at work
HOLD = Verb("hold", RESPONSE, "hold")
EXPIRY = Verb("expiry", RESPONSE)
RECONCILE = Verb("reconcile", RESPONSE)
MAINTENANCE = Verb("maintenance", ROUTINE, "database")
CLEANUP = Verb("cleanup", ROUTINE, "database")
INDEX = Verb("index", ROUTINE, "database")
MIGRATE = Verb("migrate", ROUTINE, "database")
# their own leases: what cures an incident must not wait for a backup of two hours
SESSIONS = Verb("sessions", RESPONSE, "sessions")
REPAIR = Verb("repair", RESPONSE, "repair")
INTEGRITY = Verb("integrity", RESPONSE, "integrity")
# its own: the guard's silence around other verbs is no verb
SILENCE = Verb("silence", RESPONSE)

_MODULES: Mapping[str, Verb] = {
    "alertmanager_silence": SILENCE,
    "pg_backup": BACKUP,
    "pg_backup_copy": COPY,
    "pg_backup_pin": PIN,
    "pg_backup_prune": PRUNE,
    "pg_restore": RESTORE,
    "pg_restore_tenant": RESTORE_TENANT,
    "pg_verify": DRILL,
    "pg_hold": HOLD,
    "expiry_timer": EXPIRY,
    "guard_reconcile": RECONCILE,
    "pg_index": INDEX,
    "pg_integrity": INTEGRITY,
    "pg_maintenance": MAINTENANCE,
    "pg_migrate": MIGRATE,
    "pg_purge": CLEANUP,
    "pg_repair": REPAIR,
    "pg_sessions": SESSIONS,
}
_SWAP: Mapping[str, Verb] = {"switched": RESTORE, "undone": UNDO, "finished": FINISH}
VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        BACKUP,
        COPY,
        PIN,
        PRUNE,
        RESTORE,
        RESTORE_TENANT,
        UNDO,
        FINISH,
        DRILL,
        HOLD,
        EXPIRY,
        RECONCILE,
        SILENCE,
        MAINTENANCE,
        CLEANUP,
        INDEX,
        MIGRATE,
        SESSIONS,
        REPAIR,
        INTEGRITY,
    )
}


def verb_of(module: str, params: Mapping[str, object], part_of: str = "") -> Verb | None:
    """The verb of a call of one of our modules, by its short name; None when the module changes nothing.

    part_of: the verb that a role says the call is a step of (a drill restores, too); unknown names count for nothing.
    """
    own = _SWAP.get(str(params.get("state")), RESTORE) if module == "pg_swap" else _MODULES.get(module)
    return own if own is None else VERBS.get(part_of, own)


def lease_name(verb: Verb, database: str) -> str:
    """The name of the lease that a verb needs, for instance database:podcastflow; "" when it needs none."""
    if not verb.lease:
        return ""
    return f"{verb.lease}:{database}" if database else verb.lease
