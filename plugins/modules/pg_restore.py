#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore
short_description: Restore a backup set of PostgreSQL beside the live database, and prove it
version_added: 0.1.0
description:
  - Fetches a set whole, compares every byte with its manifest, and restores it into a new database under a name of its
    own. The live database is not touched.
  - The new database gets its final name only after its rows, sequences, large objects and catalog were held against
    the fingerprint of the set, and what C(pg_restore) does not carry (grants, settings, limits, owner, comment and
    labels of the database) was set right. On any difference it is dropped again.
  - All reasons against a restore are looked for first and refused together, before anything is changed.
  - What an interrupted restore left behind is found and removed by the next one.
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
    description: Name of the database that was backed up, which is also the live one's.
    type: str
    required: true
  set:
    description: Id of the set, or V(latest) for the newest complete one of the whole database.
    type: str
    default: latest
  target:
    description:
      - Name of the new database. By default the name of the database with C(_restore_) and the last eight characters of
        the set's id.
    type: str
  schemas:
    description:
      - Restore these schemas only. They are created with the set's extensions; what they refer to in other schemas must
        be named too.
    type: list
    elements: str
    default: []
  jobs:
    description: Parallel jobs; V(0) takes one a processor, at most four, and one more while rows and indexes are made.
    type: int
    default: 0
  staging:
    description:
      - Folder where the client tools run, for the fetched dump. Where it lies on the volume of the server's data
        directory, the room for both is counted together before anything is done.
    type: path
    default: /var/tmp
  on_missing_roles:
    description:
      - What to do when the server lacks roles that own objects of the set or hold grants on them.
        V(create) makes them without login and without password.
    type: str
    choices: [refuse, create]
    default: refuse
  in_place:
    description:
      - Drop the live database to make room, once the set is fetched and proven. It needs a complete backup of the live
        database after which nothing was written, and the acknowledgement V(in_place).
    type: bool
    default: false
  acknowledge:
    description: Codes of refusals that are known and accepted; a refusal says when that is possible.
    type: list
    elements: str
    default: []
seealso:
  - module: saasops.runbook.pg_backup
  - module: saasops.runbook.pg_swap
  - module: saasops.runbook.pg_verify
"""

EXAMPLES = r"""
- name: Restore the newest set beside the live database
  saasops.runbook.pg_restore:
    system: demo
    database: podcastflow
    connection:
      unix_socket: /run/postgresql
      user: postgres
    store:
      path: /var/backups/demo

- name: Restore some schemas under a name of one's own, with those they refer to
  saasops.runbook.pg_restore:
    system: demo
    database: podcastflow
    target: podcastflow_look
    schemas:
      - public
      - org_acme
      - org_MixedCase
    connection:
      unix_socket: /run/postgresql
      user: postgres
    store:
      path: /var/backups/demo
"""

RETURN = r"""
restore:
  description: The restore that was made, or that was found to be there already.
  returned: success
  type: dict
  contains:
    id:
      description: Id of the restore; M(saasops.runbook.pg_swap) takes it.
      type: str
      sample: 20261122T201747Z-1a2b3c4d
    set:
      description: Id of the set.
      type: str
    database:
      description: Name of the live database.
      type: str
    target:
      description: Name of the restored database while it stands beside the live one.
      type: str
    state:
      description: V(verified), or V(switched) when the set is live already.
      type: str
    seconds:
      description: Time from the start to the verified database.
      type: float
    tables:
      description: Number of tables and materialized views in the set.
      type: int
    rows:
      description: Number of rows in the set.
      type: int
    bytes:
      description: Bytes of the set, before (raw) and after compression (stored).
      type: dict
    snapshot_at:
      description: The moment that the set shows, ISO 8601 in UTC.
      type: str
switch_command:
  description: What to type to let the restored database take the live one's place.
  returned: when a whole database stands verified
  type: str
cleaned:
  description: What an interrupted run had left and this one concluded, a sentence each.
  returned: success
  type: list
  elements: str
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.restore import STAGING, execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import CONNECTION_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "set": {"type": "str", "default": "latest"},
    "target": {"type": "str"},
    "schemas": {"type": "list", "elements": "str", "default": []},
    "jobs": {"type": "int", "default": 0},
    "staging": {"type": "path", "default": STAGING},
    "on_missing_roles": {"type": "str", "choices": ["refuse", "create"], "default": "refuse"},
    "in_place": {"type": "bool", "default": False},
    "acknowledge": {"type": "list", "elements": "str", "default": []},
    **CONNECTION_SPEC,
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
