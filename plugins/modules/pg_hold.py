#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_hold
short_description: Keep clients out of a database for a time
version_added: 0.2.0
description:
  - Sets the database's CONNECTION LIMIT to 0 and ends the connections of everybody but superusers, which no limit
    holds off. The limit of before is recorded in the store before that, and comes back with O(state=released).
  - A hold with an end (O(for) or O(until)) is refused unless a timer of M(saasops.runbook.expiry_timer) waits on the
    host for exactly that moment, because nobody else would end it when the controller is gone. The verb hold makes it.
  - A hold belongs to the database, not to its name; after a switch the other database is not held.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.connection
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.store
attributes:
  idempotent:
    details:
      - The same O(until) changes nothing again. O(for) counts from now, so it prolongs a hold.
    support: partial
options:
  system:
    description: Name of the system.
    type: str
    required: true
  database:
    description: The database that clients are kept out of.
    type: str
    required: true
  state:
    description: V(held) keeps clients out, V(released) lets them in again.
    type: str
    choices: [held, released]
    default: held
  reason:
    description: Why; required when O(state=held).
    type: str
  for:
    description: How long, for instance V(30m); at least 30 seconds, at most 7 days. Without it and O(until) the hold
      stays until it is released.
    type: str
  until:
    description: When it ends, a time in UTC such as V(2026-12-31T12:00:00Z); instead of O(for).
    type: str
  limit:
    description: The CONNECTION LIMIT to come back to (V(-1) for none) when no record tells it.
    type: int
seealso:
  - module: saasops.runbook.expiry_timer
"""

EXAMPLES = r"""
- name: Keep clients out until somebody lets them in again
  saasops.runbook.pg_hold:
    system: demo
    database: podcastflow
    reason: rows are being repaired
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo

- name: Let them in again
  saasops.runbook.pg_hold:
    system: demo
    database: podcastflow
    state: released
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo
"""

RETURN = r"""
id:
  description: Id of the open item, and of the timer.
  returned: success
  type: str
  sample: hold-1a2b3c4d5e6f
until:
  description: When the hold ends by itself, a time in UTC; null when it does not.
  returned: success
  type: str
revert:
  description: What ends the hold by itself; argv, environment and user for M(saasops.runbook.expiry_timer).
  returned: success
  type: dict
ended:
  description: Number of connections that were ended.
  returned: success
  type: int
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.hold import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import CONNECTION_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
    "reason": {"type": "str"},
    "for": {"type": "str"},
    "until": {"type": "str"},
    "limit": {"type": "int"},
    **CONNECTION_SPEC,
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute, required_if=[("state", "held", ["reason"])], mutually_exclusive=[("for", "until")])


if __name__ == "__main__":
    main()
