#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore_tenant
short_description: Restore one schema of a multi-tenant PostgreSQL database while the others are served
version_added: 0.1.0
description:
  - Brings the rows of one schema back to what a set says, and touches nothing else. The schema is restored into a
    scratch database first and proven against the set; then, in one transaction on the live database, rows that are
    the same stay untouched, differing ones are updated, missing ones inserted, surplus ones deleted.
  - The tenant's tables are locked against writers for that transaction, all in one step; readers, and all other
    tenants, are not held up. Before the commit every table is compared with the scratch database by count and hash,
    else everything is rolled back.
  - The rows as they were right before are kept as a set of their own; the result has the command that goes back to
    it. V(latest) never chooses such a set.
  - Foreign keys stay enforced, triggers of users do not fire. Sequences never go back. Materialized views of the
    schema are refreshed in the same transaction. Publications send the changes on.
  - It is refused, with the list, when the live structure is not the set's; when rows of other schemas refer to rows
    that the set does not have, whatever their ON DELETE says; when the set's rows refer to rows of other schemas
    that are gone; when they point at large objects that do not exist (a schema's dump has none, and contents of
    large objects are neither compared nor changed). A table without a primary key or another unique key over NOT
    NULL columns is emptied and filled again if anything differs, unless it is referred to.
  - When the live database has lost the schema, the whole schema is created from the set, with keys, triggers and
    grants, in one transaction from complete local files, and proven in it. What other schemas had that spoke of it
    is returned as SQL.
  - Check mode creates nothing, so it cannot compare row by row. It shows the rows of both sides, and which tables
    are equal when the set has hashes.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.connection
  - saasops.runbook.store
options:
  system:
    description: Name of the system that the database belongs to; sets of other systems are refused.
    type: str
    required: true
  database:
    description: Name of the live database, exactly as PostgreSQL has it.
    type: str
    required: true
  tenant:
    description: The tenant's schema, exactly as PostgreSQL has it.
    type: str
    required: true
  set:
    description:
      - Id of a set of the whole database or of the tenant, or V(latest) for the newest complete one that has it.
    type: str
    default: latest
  staging:
    description:
      - Folder where the client tools run, for the fetched dump. Of a directory dump only the tenant's files are
        fetched.
    type: path
    default: /var/tmp
  jobs:
    description: Parallel jobs; V(0) takes one a processor, at most four.
    type: int
    default: 0
  lock_wait:
    description: Seconds that one attempt waits for the locks on the tenant's tables.
    type: float
    default: 2
  lock_attempts:
    description: How often the locks are tried before the verb gives up and names who holds them.
    type: int
    default: 10
  time_limit:
    description:
      - Seconds that the transaction may take, and so the tenant's own writers may wait. Beyond it, it is rolled back.
    type: float
    default: 600
seealso:
  - module: saasops.runbook.pg_backup
  - module: saasops.runbook.pg_restore
"""

EXAMPLES = r"""
- name: Restore one tenant from the newest set that has it
  saasops.runbook.pg_restore_tenant:
    system: demo
    database: podcastflow
    tenant: org_acme
    connection:
      unix_socket: /run/postgresql
      user: postgres
    store:
      path: /var/backups/demo
"""

RETURN = r"""
set:
  description: Id of the set that was restored from.
  returned: success
  type: str
  sample: 20261122T201747Z-1a2b3c4d
tenant:
  description: The schema.
  returned: success
  type: str
snapshot_at:
  description: The moment that the set shows, by the server's clock, ISO 8601 in UTC.
  returned: success
  type: str
tables:
  description: What became of each table. In check mode, the rows on both sides and whether they are known to be equal.
  returned: success
  type: list
  elements: dict
  contains:
    table:
      description: Name of the table, without the schema.
      type: str
    inserted:
      description: Rows that were missing.
      type: int
    updated:
      description: Rows that differed.
      type: int
    deleted:
      description: Rows that the set does not have.
      type: int
    unchanged:
      description: Rows that were the same and were not touched.
      type: int
    rewritten:
      description:
        - Rows among the unchanged ones that were deleted and inserted again, because a row that they refer to had to
          make room for another one with the same unique value.
      type: int
    in_set:
      description: Rows in the set (check mode).
      type: int
    live:
      description: Rows in the live table (check mode).
      type: int
    same:
      description: Whether hashes prove that both are equal (check mode).
      type: bool
lines:
  description: The plan as a person reads it, a line for each action.
  returned: success
  type: list
  elements: str
sequences:
  description: Sequences that were raised.
  returned: success
  type: list
  elements: str
undo:
  description: The way back, empty when nothing was changed.
  returned: success
  type: dict
  contains:
    set:
      description: Id of the set with the rows as they were right before.
      type: str
    command:
      description: The command that restores it.
      type: str
outside:
  description: When the whole schema was created, what other schemas had that spoke of it and what was not put back.
  returned: when the live database had no such schema
  type: list
  elements: dict
  contains:
    type:
      description: Kind of object, as pg_dump has it.
      type: str
    schema:
      description: Schema it belongs to.
      type: str
    name:
      description: Its name.
      type: str
    sql:
      description: The SQL that creates it.
      type: str
large_objects_missing:
  description: When the whole schema was created, oids that its rows point at and for which no large object exists.
  returned: when the live database had no such schema
  type: list
  elements: int
locked_seconds:
  description: For how long writers of the tenant were held off.
  returned: when rows were compared
  type: float
attempts:
  description: How often the locks were tried.
  returned: when rows were compared
  type: int
seconds:
  description: Time from the start to the commit and the cleaning up.
  returned: when something was done
  type: float
cleaned:
  description: What an interrupted run had left and this one removed, a sentence each.
  returned: success
  type: list
  elements: str
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.tenant import STAGING, execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import CONNECTION_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "tenant": {"type": "str", "required": True},
    "set": {"type": "str", "default": "latest"},
    "staging": {"type": "path", "default": STAGING},
    "jobs": {"type": "int", "default": 0},
    "lock_wait": {"type": "float", "default": 2},
    "lock_attempts": {"type": "int", "default": 10},
    "time_limit": {"type": "float", "default": 600},
    **CONNECTION_SPEC,
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
