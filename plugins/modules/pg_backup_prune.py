#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_prune
short_description: Delete expired backup sets, never on the strength of an unproven one
version_added: 0.1.0
description:
  - Decides for every set in a store whether it stays or goes, and says why.
  - Sets of the same database, kind, schemas and tenant form a group. Groups are decided on independently.
  - A rule keeps the first proven set of each hour, day, ISO week or month in UTC. Slots without a proven set are
    not counted, so a pause in backups does not push old sets out.
  - A set goes only when a newer set of its group is proven, and that set is held against the store again right
    before anything is deleted.
  - Pinned sets, sets that an open restore or drill needs, and sets dated in the future stay.
  - Damaged sets and sets of other systems are reported and stay, unless they are named in O(also_delete).
  - A partial set goes when nothing in it changed for O(retention.partial_grace), or at once when an earlier prune
    was interrupted in it.
  - The manifest of a set is deleted first, so that an interrupted prune leaves a partial set and never one that is
    taken for good.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.retention
  - saasops.runbook.store
attributes:
  check_mode:
    details:
      - What interrupted writers left in the store outside of sets is removed too, but not foretold in check mode.
options:
  system:
    description: Name of the system whose sets are decided on; sets of other systems are never touched.
    type: str
    required: true
  retention:
    required: true
  max_delete:
    description:
      - Refuse the run when more sets than this would go.
      - A run that would leave no set at all is always refused.
    type: int
  also_delete:
    description: Damaged or foreign sets to delete, by their ids. Their pins and open uses still hold.
    type: list
    elements: str
    default: []
seealso:
  - module: saasops.runbook.pg_backup
  - module: saasops.runbook.pg_backup_info
"""

EXAMPLES = r"""
- name: Show for every set why it stays or goes
  saasops.runbook.pg_backup_prune:
    system: demo
    retention:
      hourly: 24
      daily: 30
      weekly: 12
      monthly: 12
    store:
      path: /var/backups/demo
  check_mode: true
  register: planned

- name: Keep everything for two days and then one set a day for a week, at most ten deletions in a run
  saasops.runbook.pg_backup_prune:
    system: demo
    retention:
      keep_all_within: 2d
      daily_max_age: 7d
      minimum_proven: 3
    max_delete: 10
    store:
      path: /var/backups/demo
"""

RETURN = r"""
sets:
  description: Every set in the store, oldest first.
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
    decision:
      description: V(keep) or V(delete).
      type: str
    reasons:
      description: Every reason for the decision.
      type: list
      elements: str
      sample: [daily 2026-11-22, weekly 2026-W47]
    bytes:
      description: What the set takes in the store, in bytes.
      type: int
deleted:
  description: Ids of the sets that are gone; empty in check mode.
  returned: success
  type: list
  elements: str
deleted_archives:
  description: Archives of rows (cleanup, repair) whose time was over.
  returned: success
  type: list
  elements: str
freed_bytes:
  description: Bytes that the deletions freed, or would free in check mode.
  returned: success
  type: int
  sample: 824000000
swept:
  description: Temporary files and unfinished uploads of interrupted writers that were removed.
  returned: success
  type: list
  elements: str
lines:
  description: The decisions as a table for a terminal.
  returned: success
  type: list
  elements: str
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.domain.policy import RETENTION_OPTIONS
from ansible_collections.saasops.runbook.plugins.module_utils.execute.backup_prune import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "retention": {"type": "dict", "required": True, "options": RETENTION_OPTIONS},
    "max_delete": {"type": "int"},
    "also_delete": {"type": "list", "elements": "str", "default": []},
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
