#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_info
short_description: List backup sets and hold the newest proven recovery point against the RPO
version_added: 0.1.0
description:
  - Lists every set in a store with its age, size, proof and expiry; sets that are partial, damaged or of another
    system are listed as such.
  - Judges the newest proven recovery point of each database. The set it rests on is held against the store's
    listing, so that a set that lost an object is not counted.
  - What a restore of a tenant kept to go back to is listed with the kind V(undo) and is never a recovery point.
  - Only reads. It needs no database.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes.info
  - saasops.runbook.retention
  - saasops.runbook.store
options:
  system:
    description: Name of the system whose sets are judged; sets of other systems are listed as foreign.
    type: str
    required: true
  database:
    description:
      - List and judge this database only.
      - A database without any proven set is critical.
    type: str
  rpo:
    description:
      - How much may be lost, for instance V(24h).
      - Above 80 % of it the verdict is V(warning), above it V(critical). Without it the verdict is V(unknown).
    type: str
  schedule:
    description:
      - Time between two backups, for instance V(1h).
      - A schedule that cannot meet O(rpo) is said. The next expiry is foretold under the assumption that proven
        backups keep coming at this rate, without it that none comes.
    type: str
seealso:
  - module: saasops.runbook.pg_backup
  - module: saasops.runbook.pg_backup_prune
"""

EXAMPLES = r"""
- name: List the sets of a system and judge its newest recovery point
  saasops.runbook.pg_backup_info:
    system: demo
    rpo: 24h
    schedule: 12h
    retention:
      daily: 30
      monthly: 12
    store:
      path: /var/backups/demo
  register: backups

- name: Refuse to go on without a recent backup
  ansible.builtin.assert:
    that: backups.verdict in ['ok', 'warning']
    fail_msg: "{{ backups.msg }}"
"""

RETURN = r"""
sets:
  description: The sets in the store, oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    set:
      description: Id of the set.
      type: str
      sample: 20261122T201747Z-1a2b3c4d
    state:
      description: V(complete), V(partial), V(damaged) or V(foreign).
      type: str
    kind:
      description:
        - V(database), V(schemas) or V(tenant); null when the manifest cannot be trusted.
        - V(undo) for what a restore of a tenant kept to go back to; it is never a recovery point.
      type: str
    database:
      description: Name of the database, or null.
      type: str
    schemas:
      description: The schemas in the set; empty for a whole database.
      type: list
      elements: str
    tenant:
      description: The tenant's schema, or null.
      type: str
    started:
      description: When the backup began, ISO 8601 in UTC; of a set without a manifest as its id says.
      type: str
    snapshot_at:
      description: The moment that the set shows, or null.
      type: str
    finished:
      description: When the manifest was written, or null.
      type: str
    age:
      description: Seconds since the snapshot, or since the start when there is none; negative when dated in the future.
      type: float
    bytes:
      description: What the set takes in the store, in bytes.
      type: int
    raw_bytes:
      description: Bytes before compression, or null.
      type: int
    tables:
      description: Number of tables, or null.
      type: int
    rows:
      description: Number of rows in all tables, or null.
      type: int
    server_version:
      description: The server's version as a number such as 150018, or null.
      type: int
    proof:
      description: V(stored), V(restored), V(failed), or null when it was never verified.
      type: str
    pin:
      description: Reason and expiry of the pin, or null.
      type: dict
    in_use:
      description: The open restores and drills that need the set, or null.
      type: str
    next_expiry:
      description: From when on prune deletes the set, ISO 8601 in UTC; null when it never would or no policy was given.
      type: str
    problem:
      description: Why the set cannot be relied on, or null.
      type: str
recovery_points:
  description: The newest proven recovery point of each database, and of each tenant or list of schemas with own sets.
  returned: success
  type: list
  elements: dict
  contains:
    database:
      description: Name of the database.
      type: str
    schemas:
      description: The schemas, when there are sets of these alone.
      type: list
      elements: str
    tenant:
      description: The tenant, when there are sets of it alone.
      type: str
    set:
      description: Id of the set, or null when there is none.
      type: str
    at:
      description: The moment that would be returned to, ISO 8601 in UTC, or null.
      type: str
    age:
      description: Seconds since then, or null.
      type: float
    verdict:
      description: V(ok), V(unknown), V(warning) or V(critical).
      type: str
    msg:
      description: The verdict as a sentence.
      type: str
verdict:
  description: The gravest verdict of all; a schedule that cannot meet the RPO is at least a V(warning).
  returned: success
  type: str
  sample: ok
schedule_problem:
  description: Why the schedule cannot meet the RPO, or null.
  returned: success
  type: str
store:
  description: Address of the store, without credentials.
  returned: success
  type: str
metrics:
  description:
    - The recovery points in Prometheus' text format, for the textfile collector of node_exporter.
    - Times are POSIX seconds, ages are seconds at the time of the run. Of a database without any proven set there
      is C(saasops_recovery_point_proven) with the value 0 alone.
  returned: success
  type: str
lines:
  description: The sets and the verdicts as lines for a terminal.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.saasops.runbook.plugins.module_utils.domain.policy import RETENTION_OPTIONS
from ansible_collections.saasops.runbook.plugins.module_utils.execute.backup_info import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import run_module
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "database": {"type": "str"},
    "rpo": {"type": "str"},
    "schedule": {"type": "str"},
    "retention": {"type": "dict", "options": RETENTION_OPTIONS},
    **STORE_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
