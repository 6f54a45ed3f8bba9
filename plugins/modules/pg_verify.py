#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_verify
short_description: Prove that a backup set is whole, or that a restored database is what the set says
version_added: 0.1.0
description:
  - Without O(restored), reads every byte of one or all sets and compares it with the manifest. A set that is
    damaged gets a record C(proof-*.json) that takes its earlier proofs back; nothing else is changed.
  - With O(restored), a drill. The script that C(pg_restore) makes of the set is compared with the one that
    C(pg_dump) makes of the restored database. That covers definitions, owners, grants, comments, sequences, large
    objects and every value of every row, and shares no code with the fingerprint of M(saasops.runbook.pg_backup).
  - The restored database may stand on another server than the live one. Then O(connection) names the scratch server,
    and O(live_connection) the live one, which is only read, in one session at a time. The live server itself under
    another address, its standbys and its physical copies are refused.
  - The roles that the set's objects need must all be defined in the set's own globals. Roles that the server has in
    another way than the set are warned of and kept in the ledger.
  - A drill is written into the ledger C(drills/) of the store. When it passed, the set counts as restored.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.connection
  - saasops.runbook.connection.live
  - saasops.runbook.store
options:
  system:
    description: Name of the system; sets of other systems are refused.
    type: str
    required: true
  database:
    description: Name of the database that the sets were taken of.
    type: str
    required: true
  set:
    description: Id of a set, V(latest), or V(all), which is for sets only.
    type: str
    default: latest
  restored:
    description: Name of the database that was restored from the set.
    type: str
  checks:
    description: Assertions of the system on the restored data; each SQL gives one boolean.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the assertion says.
        type: str
        required: true
      sql:
        description: A query that gives one row with one boolean.
        type: str
        required: true
  marker:
    description:
      - A query that gives the moment of the newest committed row as timestamptz. It is run in the live and in the
        restored database; the difference is the RPO that was reached.
    type: str
  started:
    description: When the verb was started, as POSIX seconds; RTO counts from there until the assertions were answered.
    type: float
  rto:
    description: The longest time that a restore may take, for instance V(4h).
    type: str
  rpo:
    description: The longest time whose commits may be missing, for instance V(1h).
    type: str
  staging:
    description: A folder with room for the raw dump, where the client tools run.
    type: path
  remove_restored:
    description: Drop the restored database after a drill that passed; one that failed is kept to be looked at.
    type: bool
    default: false
  discard:
    description:
      - Compare nothing; drop O(restored) if a record says that this collection restored it and that it never went
        live, and the roles that were made for it. It is how a drill begins, so that one that failed or was killed
        does not stand in the way of the next.
    type: bool
    default: false
seealso:
  - module: saasops.runbook.pg_backup
  - module: saasops.runbook.pg_restore
"""

EXAMPLES = r"""
- name: Read every byte of all sets
  saasops.runbook.pg_verify:
    system: demo
    database: podcastflow
    set: all
    store:
      path: /var/backups/demo

- name: Hold a restored database against the newest set
  saasops.runbook.pg_verify:
    system: demo
    database: podcastflow
    restored: podcastflow_drill
    marker: SELECT max("writtenAt") FROM public.marker
    rto: 4h
    connection:
      unix_socket: /run/postgresql
      user: postgres
    store:
      path: /var/backups/demo

- name: Hold a database on a scratch server against the newest set, and measure against the live one
  saasops.runbook.pg_verify:
    system: demo
    database: podcastflow
    restored: podcastflow_drill
    marker: SELECT max("writtenAt") FROM public.marker
    connection:
      host: scratch.example.com
      user: postgres
    live_connection:
      unix_socket: /run/postgresql
      user: postgres
    store:
      path: /var/backups/demo
"""

RETURN = r"""
verified:
  description: Ids of the sets that are whole.
  returned: without O(restored)
  type: list
  elements: str
bytes:
  description: Bytes that were read and compared.
  returned: without O(restored)
  type: int
drill:
  description: Outcome, RTO and RPO in seconds, the server it was held on, and the key of the ledger's entry.
  returned: with O(restored)
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.verify import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import (
    CONNECTION_SPEC,
    LIVE_CONNECTION_SPEC,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "set": {"type": "str", "default": "latest"},
    "restored": {"type": "str"},
    "checks": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"name": {"type": "str", "required": True}, "sql": {"type": "str", "required": True}},
    },
    "marker": {"type": "str"},
    "started": {"type": "float"},
    "rto": {"type": "str"},
    "rpo": {"type": "str"},
    "staging": {"type": "path"},
    "remove_restored": {"type": "bool", "default": False},
    "discard": {"type": "bool", "default": False},
    **CONNECTION_SPEC,
    **LIVE_CONNECTION_SPEC,
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute, required_if=[("discard", True, ["restored"])])


if __name__ == "__main__":
    main()
