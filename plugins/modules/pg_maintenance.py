#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_maintenance
short_description: Vacuum, analyze and rebuild what needs it
version_added: 0.3.0
description:
  - Measures every table of one or all databases, decides what each needs, and does it over several connections,
    within a budget of time. What does not need anything is not read.
  - Thresholds are autovacuum's own, those of the table's storage parameters before the server's, reached earlier
    by O(thresholds.ahead).
  - A table that VACUUM or ANALYZE only warns of and skips is a failure, and so is one that is due and may not be
    maintained by the login role.
  - A second call right after does nothing.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.connection
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.store
attributes:
  check_mode:
    details:
      - The plan is the one that would be carried out. Where statistics were lost and C(pgstattuple) is not installed,
        a vacuum is planned on condition of what a sample finds.
options:
  system:
    description: Name of the system.
    type: str
    required: true
  database:
    description: Name of its database.
    type: str
    required: true
  databases:
    description:
      - Databases to maintain, as names or patterns; V(all) for every one of the server that is no template. Only
        O(database) when left out.
    type: list
    elements: str
  schemas:
    description: Patterns of schemas such as V(org_*); all when left out.
    type: list
    elements: str
  tables:
    description: Patterns of C(schema.table), such as V(org_*.Campaign); all when left out.
    type: list
    elements: str
  measures:
    description:
      - What may be done. V(reindex) is REINDEX CONCURRENTLY of indexes that are mostly air, and the removal of what
        broken rebuilds and a killed C(pg_repack) left.
      - V(rewrite) builds tables anew that are mostly air, with C(pg_repack) where it is installed, else with VACUUM
        FULL, but that only while a window of C(saasops_windows) is open.
    type: list
    elements: str
    choices: [vacuum, analyze, reindex, rewrite]
    default: [vacuum, analyze, reindex]
  thresholds:
    description: When something is due.
    type: dict
    suboptions: &thresholds
      ahead:
        description: Share of autovacuum's scale factors at which a table is due. V(0.5) when left out.
        type: float
      dead_share:
        description: Share of dead rows from which a table is vacuumed, instead of autovacuum's threshold.
        type: float
      dead_rows:
        description: Dead rows from which a table is vacuumed; added to O(thresholds.dead_share) of its rows.
        type: int
      changed_share:
        description: Share of changed rows from which a table is analyzed.
        type: float
      visible_share:
        description: Share of pages that are not all-visible from which a table with index scans is vacuumed. V(0.5)
          when left out.
        type: float
      max_age:
        description: A table that changed at all is due when its last vacuum or analyze is so long ago, for instance
          V(7d).
        type: str
      freeze:
        description: Share of C(autovacuum_freeze_max_age) from which a table is frozen. V(0.75) when left out.
        type: float
      emergency_age:
        description: Age in transactions from which a table is frozen before everything else, without its indexes.
          V(1000000000) when left out.
        type: int
      index_bloat:
        description: Share of air from which an index is built anew. V(0.5) when left out.
        type: float
      index_waste:
        description: Bytes of air from which an index is built anew. V(10000000) when left out.
        type: int
      table_bloat:
        description: Share of air from which a table is built anew. V(0.5) when left out.
        type: float
      table_waste:
        description: Bytes of air from which a table is built anew. V(100000000) when left out.
        type: int
  rules:
    description: Other thresholds for some tables; of several rules that match, the later one wins.
    type: list
    elements: dict
    suboptions:
      tables:
        description: Patterns of C(schema.table).
        type: list
        elements: str
        required: true
      skip:
        description: Leave these tables alone.
        type: bool
        default: false
      measures:
        description: What may be done to them.
        type: list
        elements: str
        choices: [vacuum, analyze, reindex, rewrite]
      <<: *thresholds
  budget:
    description: The longest that all of it may take, for instance V(90m). The rest is left for the next call. A window
      that ends earlier wins.
    type: str
  jobs:
    description: Connections. As many as processors and at most 4 when left out.
    type: int
  cost_delay:
    description: C(vacuum_cost_delay) in milliseconds; V(0) works at full speed.
    type: float
    default: 0
  cost_limit:
    description: C(vacuum_cost_limit).
    type: int
    default: 200
  memory:
    description: C(maintenance_work_mem) of each connection, for instance V(256MB).
    type: str
  max_lag:
    description: Bytes that a standby may lag behind; V(256000000) when left out, V(0) for no limit. Above it nothing
      new is begun, and after O(patience) what runs is cancelled.
    type: int
  max_active:
    description: Sessions of others that may be at work. Above it nothing new is begun, and after O(patience) what runs
      is cancelled.
    type: int
  patience:
    description: How long that may be so before what runs is cancelled and the call ends with V(maintenance_stopped).
      An emergency against wraparound goes on.
    type: str
    default: 1m
  max_tables:
    description: The most tables that one call may touch.
    type: int
  max_rewrite_bytes:
    description: The most bytes, indexes included, that one call may rewrite.
    type: int
  lock_timeout:
    description: The longest wait for a lock.
    type: str
    default: 5s
  lock_wait:
    description: How long a table that somebody holds is tried again, before it is left and the call fails.
    type: str
    default: 10s
  rewrite_timeout:
    description: The longest that the rewrite of one table may take, if the budget does not end before.
    type: str
    default: 10m
  truncate:
    description: Whether VACUUM gives empty pages at a table's end back, which takes a lock that stops everybody for a
      moment. V(auto) does so for tables that nobody used since they were measured.
    type: str
    choices: [auto, "on", "off"]
    default: auto
  repack:
    description: Whether C(pg_repack) is used. V(auto) where extension and program are there in one version; V(always)
      never falls back to VACUUM FULL.
    type: str
    choices: [auto, always, never]
    default: auto
  space:
    description: A path on the volume of the data, where the client tools run. It is found out when left out, unless the
      server is on another host.
    type: path
  measure_bytes:
    description: The most that C(pgstattuple) may read of one table or index; eight times that in all. V(0) never uses
      it.
    type: int
    default: 256000000
seealso:
  - module: saasops.runbook.pg_backup
"""

EXAMPLES = r"""
- name: Vacuum and analyze what needs it, for at most an hour
  saasops.runbook.pg_maintenance:
    system: demo
    database: podcastflow
    budget: 1h
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo

- name: Every database of the server, anything that changed in a week
  saasops.runbook.pg_maintenance:
    system: demo
    database: podcastflow
    databases: [all]
    thresholds:
      max_age: 7d
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo
"""

RETURN = r"""
databases:
  description: Names of the databases that were measured.
  returned: success
  type: list
  elements: str
tables:
  description: Number of tables that were measured.
  returned: success
  type: int
acts:
  description: What was done, with counters before and after; none in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    database:
      description: Name of the database.
      type: str
    table:
      description: Table or index, with its schema.
      type: str
    kind:
      description: V(vacuum), V(freeze), V(analyze), V(reindex), V(rewrite) or V(drop leftover).
      type: str
    reason:
      description: Why, with the numbers that were decided on.
      type: str
    outcome:
      description: V(done), V(not needed), V(locked), V(out of time), V(stopped), V(gone), V(in use), or that
        autovacuum works on it.
      type: str
    dead_before:
      description: Dead rows before; C(dead_after) those after.
      type: int
    bytes_before:
      description: Bytes before, indexes included; C(bytes_after) those after.
      type: int
    blocks_read:
      description: Blocks that were read for the table meanwhile.
      type: int
gained:
  description: Sums over all acts, C(dead_rows_removed), C(bytes_freed) and C(blocks_read), and the acts by kind.
  returned: success
  type: dict
left:
  description: What is due and was left for the next call, and why.
  returned: success
  type: list
  elements: dict
cleaned:
  description: What an interrupted call had left running.
  returned: success
  type: list
  elements: str
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import MEASURES
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_options import RULE, THRESHOLDS
from ansible_collections.saasops.runbook.plugins.module_utils.execute.maintenance import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import CONNECTION_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "databases": {"type": "list", "elements": "str"},
    "schemas": {"type": "list", "elements": "str"},
    "tables": {"type": "list", "elements": "str"},
    "measures": {
        "type": "list",
        "elements": "str",
        "choices": list(MEASURES),
        "default": ["vacuum", "analyze", "reindex"],
    },
    "thresholds": {"type": "dict", "options": THRESHOLDS},
    "rules": {"type": "list", "elements": "dict", "options": RULE},
    "budget": {"type": "str"},
    "jobs": {"type": "int"},
    "cost_delay": {"type": "float", "default": 0},
    "cost_limit": {"type": "int", "default": 200},
    "memory": {"type": "str"},
    "max_lag": {"type": "int"},
    "max_active": {"type": "int"},
    "patience": {"type": "str", "default": "1m"},
    "max_tables": {"type": "int"},
    "max_rewrite_bytes": {"type": "int"},
    "lock_timeout": {"type": "str", "default": "5s"},
    "lock_wait": {"type": "str", "default": "10s"},
    "rewrite_timeout": {"type": "str", "default": "10m"},
    "truncate": {"type": "str", "choices": ["auto", "on", "off"], "default": "auto"},
    "repack": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
    "space": {"type": "path"},
    "measure_bytes": {"type": "int", "default": 256_000_000},
    **CONNECTION_SPEC,
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
