#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_purge
short_description: Archive old rows and delete them in small batches, or put them back
version_added: 0.3.0
description:
  - Works purge rules off. The rows of each batch lie in the store, with their length and checksum acknowledged, before
    the transaction that deletes them touches the first one. A batch is deleted whole, exactly as it was archived, or
    not at all.
  - A row that was changed, is locked, or got rows that refer to it since it was read is kept, and the number is told.
  - Rows that refer to the rule's rows with ON DELETE CASCADE, SET NULL or SET DEFAULT must be named as children, and
    are archived and deleted with them. Rows that others refer to without such an action stay.
  - Can be stopped at any moment, also by a kill. The next run asks the server what became of the last batch, completes
    the archive, and goes on.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.connection
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.store
options:
  system:
    description: Name of the system.
    type: str
    required: true
  database:
    description: The database with the rows.
    type: str
    required: true
  state:
    description: V(purged) archives and deletes, V(put_back) puts the rows of O(archives) back.
    type: str
    choices: [purged, put_back]
    default: purged
  rules:
    description:
      - Purge rules, see the guide on cleanup for their fields. A field that is not known is refused.
    type: list
    elements: dict
  rule:
    description: Only these rules, by name; all of them without it.
    type: list
    elements: str
  tenant_schemas:
    description: What V(schemas=tenants) of a rule stands for, patterns such as V(org_*).
    type: list
    elements: str
  key:
    description: Name of this act. The same name again keeps the cut-off of a run that was stopped, and changes nothing
      after one that was not.
    type: str
    default: ""
  count_seconds:
    description: How long counting one table may take, in seconds; after that the planner's guess is shown as such.
    type: int
    default: 60
  archives:
    description: Ids of the archives to put back.
    type: list
    elements: str
seealso:
  - module: saasops.runbook.pg_repair
"""

EXAMPLES = r"""
- name: Archive and delete marks that are older than 90 days
  saasops.runbook.pg_purge:
    system: demo
    database: podcastflow
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo
    rules:
      - name: marks
        table: marker
        age_column: writtenAt
        older_than: 90d
"""

RETURN = r"""
rules:
  description: What each rule did. Its archive, cut-off, rows, children, batches, rows kept, and the longest time that
    a batch held locks.
  returned: success, with O(state=purged)
  type: list
  elements: dict
tables:
  description: Rows that matched in each table before, and whether that was counted exactly.
  returned: success, with O(state=purged)
  type: list
  elements: dict
archives:
  description: Ids of the archives that hold what was deleted, or that were put back.
  returned: success
  type: list
  elements: str
recovered:
  description: Archives of killed runs that were brought to their end.
  returned: success, with O(state=purged)
  type: list
  elements: dict
cleaned:
  description: What was left of a killed run and ended.
  returned: when it changed something
  type: list
  elements: str
rows:
  description: Rows that were put back.
  returned: success, with O(state=put_back)
  type: int
present:
  description: Rows that were there already.
  returned: success, with O(state=put_back)
  type: int
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.purge import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import CONNECTION_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["purged", "put_back"], "default": "purged"},
    "rules": {"type": "list", "elements": "dict"},
    "rule": {"type": "list", "elements": "str"},
    "tenant_schemas": {"type": "list", "elements": "str"},
    "key": {"type": "str", "default": "", "no_log": False},
    "count_seconds": {"type": "int", "default": 60},
    "archives": {"type": "list", "elements": "str"},
    **CONNECTION_SPEC,
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute, required_if=[("state", "purged", ["rules"]), ("state", "put_back", ["archives"])])


if __name__ == "__main__":
    main()
