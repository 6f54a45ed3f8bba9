#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup
short_description: Back up a PostgreSQL database as a proven set
version_added: 0.1.0
description:
  - Dumps one database, some schemas, or each tenant, together with the roles, the configuration and a
    fingerprint of every table, all seen under one snapshot that was taken after every table was locked.
  - A set counts only once its manifest is written, which happens last, after every object was read back from
    the store and compared by length and SHA-256 with what the producing side wrote.
  - Needs no right to delete in the store. What it would remove and may not (of interrupted runs, of a backup that
    failed) is named in a warning and is left to M(saasops.runbook.pg_backup_prune).
  - Subscriptions and the passwords of roles are left out; both are named in the manifest.
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
    description: Name of the database, exactly as PostgreSQL has it.
    type: str
    required: true
  schemas:
    description: Back up these schemas only, as one set. Large objects belong to no schema and are left out.
    type: list
    elements: str
    default: []
  tenants:
    description:
      - Patterns of schema names, for instance V(org_*). Each matching schema becomes a set of its own;
        all are taken under the same snapshot.
    type: list
    elements: str
    default: []
  staging:
    description:
      - A folder where the client tools run, for a parallel dump. It must not lie on the volume of the server's
        data directory.
      - Without it the dump is streamed by one process and needs no room.
    type: path
  jobs:
    description: Parallel dump and compression jobs; V(0) takes one a processor, at most four.
    type: int
    default: 0
  fingerprint:
    description: V(counts) records the exact number of rows of every table, V(hashes) also a checksum of their values.
    type: str
    choices: [counts, hashes]
    default: counts
  codec:
    description: How objects are compressed.
    type: str
    choices: [zstd, none]
    default: zstd
  level:
    description: Compression level of zstd, 1 (fast) to 19.
    type: int
    default: 2
  max_age:
    description:
      - Change nothing when a complete set of the same database and kind is younger than this, for instance V(6h).
    type: str
  key:
    description:
      - Name of this act, for instance the slot of a schedule. A set that carries the same key makes a second one
        needless.
    type: str
    default: ""
  accept_secrets:
    description: Dump a database whose user mappings hold passwords, which the dump then carries in clear.
    type: bool
    default: false
seealso:
  - module: saasops.runbook.pg_backup_copy
  - module: saasops.runbook.pg_backup_info
  - module: saasops.runbook.pg_restore
  - module: saasops.runbook.pg_verify
"""

EXAMPLES = r"""
- name: Back up a whole database into a folder of the same host
  saasops.runbook.pg_backup:
    system: demo
    database: podcastflow
    connection:
      unix_socket: /run/postgresql
      user: postgres
    store:
      path: /var/backups/demo

- name: Back up every tenant as a set of its own, unless that was done within six hours
  saasops.runbook.pg_backup:
    system: demo
    database: podcastflow
    tenants:
      - org_*
    max_age: 6h
    connection:
      unix_socket: /run/postgresql
      user: postgres
    store:
      path: /var/backups/demo
"""

RETURN = r"""
sets:
  description: The sets that were written and proven.
  returned: success
  type: list
  elements: dict
  contains:
    set:
      description: Id of the set.
      type: str
      sample: 20261122T201747Z-1a2b3c4d
    kind:
      description: V(database), V(schemas) or V(tenant).
      type: str
    tenant:
      description: The tenant's schema, or null.
      type: str
    snapshot_at:
      description: The moment that the set shows, by the server's clock, ISO 8601 in UTC.
      type: str
    seconds:
      description: Time from the start to the manifest, in seconds.
      type: float
    bytes:
      description: Bytes before (raw) and after compression (stored).
      type: dict
    tables:
      description: Number of tables and materialized views.
      type: int
    rows:
      description: Number of rows in all tables.
      type: int
    proof:
      description: How the set was proven and when; level V(stored) means read back and compared.
      type: dict
present:
  description: Ids of sets that made a new one needless.
  returned: success
  type: list
  elements: str
cleaned:
  description: What an interrupted run had left and this one removed, a sentence each.
  returned: when something was done
  type: list
  elements: str
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.backup import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import CONNECTION_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "schemas": {"type": "list", "elements": "str", "default": []},
    "tenants": {"type": "list", "elements": "str", "default": []},
    "staging": {"type": "path"},
    "jobs": {"type": "int", "default": 0},
    "fingerprint": {"type": "str", "choices": ["counts", "hashes"], "default": "counts"},
    "codec": {"type": "str", "choices": ["zstd", "none"], "default": "zstd"},
    "level": {"type": "int", "default": 2},
    "max_age": {"type": "str"},
    "key": {"type": "str", "default": "", "no_log": False},
    "accept_secrets": {"type": "bool", "default": False, "no_log": False},
    **CONNECTION_SPEC,
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute, mutually_exclusive=[("schemas", "tenants")])


if __name__ == "__main__":
    main()
