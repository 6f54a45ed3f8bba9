#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_index
short_description: Build and drop indexes without holding readers or writers up
version_added: 0.3.0
description:
  - Builds and drops indexes CONCURRENTLY, in one schema or in each schema of every tenant, several tables at a time and
    one index at a time on a table.
  - What is wanted is compared with what is there as the server understands it, so another spelling of the same index
    builds nothing, and the same index under another name is said.
  - An invalid index of the name is repaired, unless somebody builds it now. What C(REINDEX CONCURRENTLY) left behind
    on the tables that are spoken of is removed.
  - Before a build it looks for transactions that the build would wait for, waits for them for O(wait), and then
    refuses. A build that takes too long is canceled and what it left is removed.
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
      - To compare definitions, a temporary table without rows is made and rolled back, in check mode too.
    support: full
options:
  system:
    description: Name of the system.
    type: str
    required: true
  database:
    description: Name of the database.
    type: str
    required: true
  indexes:
    description:
      - The indexes that are wanted; those that are there and not named stay.
      - See the guide docs/indexes.md for every key of an entry.
    type: list
    elements: dict
    default: []
  name:
    description:
      - Only this index, V(name) or V(schema.name). With O(state=present) it must be one of O(indexes).
    type: str
  state:
    description: With O(name), V(absent) drops it, whatever O(indexes) says.
    type: str
    choices: [present, absent]
    default: present
  replace:
    description: Whether another index under a wanted name is replaced, for all entries. Each entry can say it, too.
    type: bool
    default: false
  jobs:
    description: How many tables are worked on at a time.
    type: int
    default: 2
  wait:
    description: How long a build may wait for transactions of others, before it and in it.
    type: str
    default: 2m
  old:
    description: Age from which a transaction is waited for before a build begins.
    type: str
    default: 30s
  time_limit:
    description: How long one build may take.
    type: str
    default: 2h
  drop_limit:
    description: How long it may take to drop an index. One that is canceled is not used any more, and gone next time.
    type: str
    default: 1m
  acknowledge:
    description: Codes of refusals that are known and accepted; V(index_of_foreign_key).
    type: list
    elements: str
    choices: [index_of_foreign_key]
    default: []
seealso:
  - module: saasops.runbook.pg_backup
"""

EXAMPLES = r"""
- name: Have the indexes that the newest orders are found by
  saasops.runbook.pg_index:
    system: demo
    database: podcastflow
    indexes:
      - name: campaign_created
        table: Campaign
        schemas: [org_*]
        columns: [status, {name: createdAt, order: desc}]
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo

- name: Drop one again
  saasops.runbook.pg_index:
    system: demo
    database: podcastflow
    name: org_a.campaign_created
    state: absent
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo
"""

RETURN = r"""
made:
  description: Indexes that were built, each proven valid and ready.
  returned: success
  type: list
  elements: dict
  sample: [{"index": "org_a.campaign_created", "table": "org_a.Campaign", "act": "create", "bytes": 16384,
            "definition": "CREATE INDEX ..."}]
dropped:
  description: Indexes that were dropped, with the definition that makes them again.
  returned: success
  type: list
  elements: dict
cleaned:
  description: Leftovers of interrupted runs that were removed.
  returned: success
  type: list
  elements: str
notes:
  description: Entries that needed nothing, and why.
  returned: success
  type: list
  elements: str
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.index import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import CONNECTION_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "indexes": {"type": "list", "elements": "dict", "default": []},
    "name": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "replace": {"type": "bool", "default": False},
    "jobs": {"type": "int", "default": 2},
    "wait": {"type": "str", "default": "2m"},
    "old": {"type": "str", "default": "30s"},
    "time_limit": {"type": "str", "default": "2h"},
    "drop_limit": {"type": "str", "default": "1m"},
    "acknowledge": {"type": "list", "elements": "str", "choices": ["index_of_foreign_key"], "default": []},
    **CONNECTION_SPEC,
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
