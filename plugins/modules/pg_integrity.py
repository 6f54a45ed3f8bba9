#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_integrity
short_description: Look for data corruption, and on suspicion hold back what would lose more
version_added: 0.3.0
description:
  - Reads what a server counted of checksum failures, and every relation of its databases with amcheck (what
    C(pg_amcheck --heapallindexed) checks, and uniqueness from amcheck 1.4 on), each for itself and within O(budget).
    Nothing is changed on the server.
  - When something is found, or somebody suspects it (O(suspected)), that is recorded in the store. From then on prune,
    cleanup, restore_finish and rewriting maintenance are refused with C(integrity_suspected), whatever break glass
    says, until somebody releases it (O(state=released)).
  - The evidence is kept in the store below C(integrity/), and the last proven sets from before are named and pinned.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.connection
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.store.held_copies
  - saasops.runbook.store
attributes:
  idempotent:
    details:
      - A suspicion that stands with the same findings changes nothing again.
options:
  system:
    description: Name of the system.
    type: str
    required: true
  state:
    description: V(checked) looks; V(released) ends a suspicion.
    type: str
    choices: [checked, released]
    default: checked
  suspected:
    description: Why corruption is suspected. It is recorded before anything is read.
    type: str
  reason:
    description: Why the suspicion is over; required when O(state=released).
    type: str
  databases:
    description: Only these databases; all that take connections when left out.
    type: list
    elements: str
  tables:
    description: Only relations whose C(schema.name) these shell-like patterns mean.
    type: list
    elements: str
  budget:
    description: The longest time for reading, for instance V(30m). What was not reached is named.
    type: str
    default: 10m
"""

EXAMPLES = r"""
- name: Look for corruption for at most five minutes
  saasops.runbook.pg_integrity:
    system: demo
    databases: [podcastflow]
    budget: 5m
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo

- name: Release a suspicion that turned out to be none
  saasops.runbook.pg_integrity:
    system: demo
    state: released
    reason: the disk was replaced and the database restored
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo
"""

RETURN = r"""
suspected:
  description: Whether corruption is suspected now.
  returned: success
  type: bool
findings:
  description: What is wrong, each with C(database), C(relation), C(kind), C(block), C(file), C(text); at most 200.
  returned: success
  type: list
  elements: dict
checked:
  description: Number of relations that were read whole.
  returned: when something was read
  type: int
unchecked:
  description: What was not checked, each with C(name) and C(why).
  returned: when something was read
  type: list
  elements: dict
evidence:
  description: Key of the evidence in the store, empty without a suspicion.
  returned: success
  type: str
sets:
  description: Ids of the last proven sets from before the suspicion.
  returned: success
  type: list
  elements: str
lines:
  description: What an operator reads.
  returned: success
  type: list
  elements: str
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.integrity import BUDGET, execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import CONNECTION_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import HELD_COPIES_SPEC, STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["checked", "released"], "default": "checked"},
    "suspected": {"type": "str"},
    "reason": {"type": "str"},
    "databases": {"type": "list", "elements": "str"},
    "tables": {"type": "list", "elements": "str"},
    "budget": {"type": "str", "default": BUDGET},
    **CONNECTION_SPEC,
    **STORE_SPEC,
    **HELD_COPIES_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute, required_if=[("state", "released", ["reason"])])


if __name__ == "__main__":
    main()
