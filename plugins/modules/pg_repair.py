#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_repair
short_description: Run a named fix of the inventory on the rows that it shows
version_added: 0.3.0
description:
  - A fix is a condition, a change and its parameters as data. Parameters are checked against their type and pattern and
    bound as literals; nobody types SQL at night.
  - Check mode shows each row with what it was and would become. The act works on exactly these rows, in one
    transaction, after their images of before lie in the store; it is rolled back when a row was changed meanwhile, when
    another number of rows was met, or when the fix's verification does not hold.
  - O(state=put_back) takes it back, and refuses when a row was changed since.
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
    description: V(repaired) runs the fix, V(put_back) takes the repairs of O(archives) back.
    type: str
    choices: [repaired, put_back]
    default: repaired
  fixes:
    description: The fixes that there are, see the guide on repair for their fields.
    type: list
    elements: dict
  fix:
    description: Name of the fix to run.
    type: str
  parameters:
    description: Values of the fix's parameters.
    type: dict
    default: {}
  reason:
    description: Why; required unless the fix only reports. It is kept with the archive and in the journal.
    type: str
  tenant:
    description: Only these schemas, names or patterns; all that the fix speaks of without it.
    type: list
    elements: str
  tenant_schemas:
    description: What V(schemas=tenants) of a fix stands for, patterns such as V(org_*).
    type: list
    elements: str
  archives:
    description: Ids of the archives of the repairs to take back.
    type: list
    elements: str
seealso:
  - module: saasops.runbook.pg_purge
"""

EXAMPLES = r"""
- name: Correct the contact of one tenant
  saasops.runbook.pg_repair:
    system: demo
    database: podcastflow
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo
    fix: contact
    parameters:
      id: "1"
      contact: ada@example.org
    reason: ticket 4711, the form answers with an error
    fixes:
      - name: contact
        description: correct the contact of one tenant
        table: tenants
        where: t.id = :id
        search_path: [public]
        set:
          contact: ":contact"
        parameters:
          - name: id
            type: integer
          - name: contact
            pattern: "[^@ ]+@[^@ ]+"
        limit: 1
"""

RETURN = r"""
fix:
  description: Name of the fix.
  returned: success, with O(state=repaired)
  type: str
rows:
  description: The rows that the fix speaks of, one sentence each.
  returned: success, with O(state=repaired)
  type: list
  elements: str
count:
  description: How many rows were or would be changed.
  returned: success
  type: int
archives:
  description: Ids of the archives with the rows as they were before.
  returned: success
  type: list
  elements: str
recovered:
  description: Archives of killed repairs that were brought to their end.
  returned: success, with O(state=repaired)
  type: list
  elements: dict
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.repair import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import CONNECTION_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["repaired", "put_back"], "default": "repaired"},
    "fixes": {"type": "list", "elements": "dict"},
    "fix": {"type": "str"},
    "parameters": {"type": "dict", "default": {}},
    "reason": {"type": "str"},
    "tenant": {"type": "list", "elements": "str"},
    "tenant_schemas": {"type": "list", "elements": "str"},
    "archives": {"type": "list", "elements": "str"},
    **CONNECTION_SPEC,
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute, required_if=[("state", "repaired", ["fixes"]), ("state", "put_back", ["archives"])])


if __name__ == "__main__":
    main()
