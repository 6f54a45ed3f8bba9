#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: journal_info
short_description: Read a system's journal, prove that it is whole, and list its runs
version_added: 0.2.0
description:
  - Reads every record of the journal in a store and follows its chain, in which each record names the SHA-256 of the
    one before. Finds records that were edited, removed, inserted, exchanged or copied, and objects that are none.
  - Records that were removed from the end, or written anew up to the end, are found only against O(anchor), a head
    that was kept in another place. Without it the module says so in RV(ignore:msg).
  - Findings are returned and do not fail the module; the playbook C(saasops.runbook.journal_verify) fails on any.
  - Only reads.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes.info
  - saasops.runbook.store
  - saasops.runbook.store.anchor
options:
  system:
    description: Name of the system; its anchors are looked up by it.
    type: str
    required: true
  run:
    description: Return the records of this run in RV(records).
    type: str
  last:
    description: List this many runs, the newest ones; V(0) lists none.
    type: int
    default: 10
  first:
    description:
      - Begin the proof at this record.
      - For a journal with damage that is known and explained, so that new damage is told from old.
    type: int
    default: 1
"""

EXAMPLES = r"""
- name: Prove the journal and look at the last runs
  saasops.runbook.journal_info:
    system: podcastflow
    store:
      path: /var/backups/podcastflow
  register: journal

- name: Stop when somebody changed the journal
  ansible.builtin.assert:
    that: journal.whole
    fail_msg: "{{ journal.msg }}"

- name: Look at everything that one run did
  saasops.runbook.journal_info:
    system: podcastflow
    run: 20261122T201747Z-1a2b3c4d
    last: 0
    store:
      path: /var/backups/podcastflow
"""

RETURN = r"""
whole:
  description: Whether there is no finding.
  returned: success
  type: bool
  sample: true
findings:
  description: What is wrong, by the number of the record.
  returned: success
  type: list
  elements: dict
  contains:
    number:
      description: Number of the record, or 0 for an object that is none.
      type: int
    code:
      description:
        - V(missing), V(unreadable), V(edited), V(moved) (it lies under another number than its own), V(chain) (it does
          not follow from the one before), V(duplicated), V(sequence) (out of order in its run), V(foreign).
        - V(truncated) and V(rewritten) are against an anchor or the head object; V(head_lost) is what a later append
          noticed.
      type: str
    msg:
      description: The finding as a sentence.
      type: str
count:
  description: Number of records that were read.
  returned: success
  type: int
anchored:
  description: Number of the newest record that the anchor's place holds, or null.
  returned: success
  type: int
runs:
  description: The newest runs, the latest first.
  returned: success
  type: list
  elements: dict
  contains:
    run:
      description: Id of the run.
      type: str
    system:
      description: Name of the system.
      type: str
    verb:
      description: What was run.
      type: str
    operator:
      description: Who ran it.
      type: str
    hosts:
      description: The hosts it did something on.
      type: list
      elements: str
    started:
      description: When it began, ISO 8601 in UTC.
      type: str
    ended:
      description: When it ended, or null when no end was journaled.
      type: str
    seconds:
      description: How long it took, or null.
      type: float
    result:
      description: What the end says; else V(failed), V(refused), or V(open) when no end was journaled.
      type: str
    changed:
      description: Whether any record says that something changed.
      type: bool
    records:
      description: Number of its records.
      type: int
records:
  description: The records of O(run), in the order of the chain.
  returned: success
  type: list
  elements: dict
store:
  description: Address of the store, without credentials.
  returned: success
  type: str
lines:
  description: Runs, findings and verdict as lines for a terminal.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.journal_info import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import run_module
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "anchor": {**STORE_SPEC["store"], "required": False},
    "run": {"type": "str"},
    "last": {"type": "int", "default": 10},
    "first": {"type": "int", "default": 1},
    **STORE_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
