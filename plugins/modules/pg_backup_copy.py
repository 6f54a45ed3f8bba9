#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_copy
short_description: Copy proven backup sets into other stores, under other credentials
version_added: 0.1.0
description:
  - Streams the objects of complete sets from one store into others, holds each against the length and SHA-256 of
    the set's list of contents on the way in, reads it back from the other store and compares again. The manifest is
    written last, so that a copy that was interrupted is never taken for good and the next run continues it.
  - Pins and proofs go along, also those that came after the set was copied.
  - Nothing is ever deleted, and a set that is complete in the other store is not written over. The credentials of
    O(copies) need no right to delete.
  - One store that fails does not keep the others from getting their copy; the module fails at the end.
  - Needs no database.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.store
  - saasops.runbook.store.copies
options:
  system:
    description: Name of the system whose sets are copied; sets of other systems are left alone.
    type: str
    required: true
  set:
    description:
      - Ids of the sets to copy, or V(latest) for the newest complete set of each database (and of each tenant or list
        of schemas that has sets of its own), or V(all) for every complete one.
      - An empty list copies nothing and only tries whether the stores answer.
    type: list
    elements: str
    default: [latest]
  jobs:
    description: Objects that are copied at the same time; V(0) takes two.
    type: int
    default: 0
seealso:
  - module: saasops.runbook.pg_backup
  - module: saasops.runbook.pg_backup_info
  - module: saasops.runbook.pg_backup_prune
"""

EXAMPLES = r"""
- name: Copy the newest set of each database into a bucket of another account
  saasops.runbook.pg_backup_copy:
    system: demo
    store:
      path: /var/backups/demo
    copies:
      - type: s3
        bucket: demo-offsite
        region: eu-central-1
        profile: offsite

- name: Say what a copy of everything would take
  saasops.runbook.pg_backup_copy:
    system: demo
    set: [all]
    store:
      path: /var/backups/demo
    copies:
      - path: /mnt/elsewhere/demo
  check_mode: true
"""

RETURN = r"""
copies:
  description: What became of each store of O(copies), in the same order.
  returned: success
  type: list
  elements: dict
  contains:
    store:
      description: Address of the store, without credentials.
      type: str
    sets:
      description:
        - The sets that were asked for, oldest first, each with set (its id), state, objects and bytes.
        - The state is V(present) when the store had all of it, V(copied), or V(lacking) in check mode. objects and
          bytes count what was, or would be, sent.
      type: list
      elements: dict
    bytes:
      description: Bytes that were, or would be, sent.
      type: int
    code:
      description: Null; the code of the first error in the details of a failure.
      type: str
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.backup_copy import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import COPIES_SPEC, STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "set": {"type": "list", "elements": "str", "default": ["latest"]},
    "jobs": {"type": "int", "default": 0},
    **STORE_SPEC,
    **COPIES_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
