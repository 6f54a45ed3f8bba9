#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: guard_report
short_description: Write the report of a system as one HTML file on the controller
version_added: 0.2.0
description:
  - Reads a system's journal, backup sets and ledger of drills, and writes one page that needs nothing else. It holds
    the timeline of runs with plan against result, refusals and bypasses, the age and proof of backups, RTO and RPO of
    drills over time, a calendar of retention, and the verdict on the journal.
  - What is shown is gathered on the host, where the address of the store is valid. The page is made on the controller,
    from a template in which every value is escaped, and never passes Ansible's own templating.
  - Only reads the store, and takes no lease.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.store
  - saasops.runbook.store.anchor
  - saasops.runbook.retention
attributes:
  action:
    description: Runs on the controller, and on the host the part that reads the store.
    support: full
  check_mode:
    description: Gathers and renders everything, and writes no file.
  diff_mode:
    description: A page is no difference that anybody reads.
    support: none
  idempotent:
    description: Each report says when it was made, so each run writes the file anew.
    support: none
options:
  system:
    description: Name of the system.
    type: str
    required: true
  dest:
    description:
      - The file on the controller. A path that ends in C(/), or that is a folder, gets C(report-<system>.html) in it.
      - The folder must exist. The file is replaced whole or not at all.
    type: path
    required: true
  mode:
    description: Permissions of the file, octal. By itself nobody but the operator reads it.
    type: str
    default: "0600"
  last:
    description:
      - Tell this many runs in full, the newest ones. Older ones are counted by month and verb; their bypasses are
        told all the same.
    type: int
    default: 200
  first:
    description: Begin the proof of the journal at this record, see M(saasops.runbook.journal_info).
    type: int
    default: 1
  database:
    description: Judge the recovery points of this database only.
    type: str
  rpo:
    description: How much may be lost, for instance V(24h); what backups and drills are held against.
    type: str
  rto:
    description: How long a restore may take, for instance V(1h); what drills are held against.
    type: str
  schedule:
    description: Time between two backups, for instance V(1h); foretells when sets expire.
    type: str
seealso:
  - module: saasops.runbook.journal_info
  - module: saasops.runbook.pg_backup_info
"""

EXAMPLES = r"""
- name: Write the report of a system
  saasops.runbook.guard_report:
    system: podcastflow
    store:
      path: /var/backups/podcastflow
    dest: report.html
    rpo: 24h
    rto: 1h
    retention:
      daily: 30
      monthly: 12

- name: Keep one page for each system in a folder that the auditors read
  saasops.runbook.guard_report:
    system: podcastflow
    store:
      path: /var/backups/podcastflow
    dest: ./
    mode: "0640"
    last: 500
  register: report

- name: Say where it is
  ansible.builtin.debug:
    var: report.dest
"""

RETURN = r"""
dest:
  description: The file on the controller.
  returned: success
  type: str
  sample: /home/ann/report-podcastflow.html
size:
  description: Its bytes.
  returned: success
  type: int
whole:
  description: Whether the journal is whole.
  returned: success
  type: bool
"""

from ansible_collections.saasops.runbook.plugins.module_utils.domain.policy import RETENTION_OPTIONS
from ansible_collections.saasops.runbook.plugins.module_utils.execute.guard_report import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import run_module
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "dest": {"type": "path", "required": True},
    "mode": {"type": "str", "default": "0600"},
    "last": {"type": "int", "default": 200},
    "first": {"type": "int", "default": 1},
    "database": {"type": "str"},
    "anchor": {**STORE_SPEC["store"], "required": False},
    "retention": {"type": "dict", "options": RETENTION_OPTIONS},
    "rpo": {"type": "str"},
    "rto": {"type": "str"},
    "schedule": {"type": "str"},
    **STORE_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
