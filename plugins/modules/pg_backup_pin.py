#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_pin
short_description: Pin a backup set, so that prune leaves it
version_added: 0.1.0
description:
  - A pinned set stays whatever the retention says, until its pin expires or is taken away.
  - The pin is an object beside the set; the set itself is not touched.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.store
options:
  system:
    description: Name of the system that the set belongs to; sets of other systems are refused.
    type: str
    required: true
  set:
    description: Id of the set, as M(saasops.runbook.pg_backup_info) lists it.
    type: str
    required: true
  state:
    description: V(present) pins the set or changes its pin, V(absent) takes the pin away.
    type: str
    choices: [present, absent]
    default: present
  reason:
    description: Why the set must stay. Required when O(state=present).
    type: str
  until:
    description:
      - When the pin expires, a day such as V(2026-12-31) (to its end, UTC) or a time such as V(2026-12-31T12:00:00Z).
      - Without it the set is pinned for ever.
    type: str
  by:
    description: Who wants it, for the record.
    type: str
seealso:
  - module: saasops.runbook.pg_backup_info
  - module: saasops.runbook.pg_backup_prune
"""

EXAMPLES = r"""
- name: Keep the set that was made before a migration
  saasops.runbook.pg_backup_pin:
    system: demo
    set: 20261122T201747Z-1a2b3c4d
    reason: before the move to version 2
    until: "2099-12-31"
    store:
      path: /var/backups/demo

- name: Let the retention decide on it again
  saasops.runbook.pg_backup_pin:
    system: demo
    set: 20261122T201747Z-1a2b3c4d
    state: absent
    store:
      path: /var/backups/demo
"""

RETURN = r"""
pin:
  description: Reason and expiry (ISO 8601 in UTC, or null) of the pin, or null when there is none.
  returned: success
  type: dict
  sample:
    reason: before the move to version 2
    until: null
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.backup_pin import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "set": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "reason": {"type": "str"},
    "until": {"type": "str"},
    "by": {"type": "str"},
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute, required_if=[("state", "present", ["reason"])])


if __name__ == "__main__":
    main()
