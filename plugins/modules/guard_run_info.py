#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: guard_run_info
short_description: Find the way back from one run
version_added: 0.2.0
description:
  - Reads what a run wrote to the journal and returns the verb, with its variables, that goes back from it on this
    host. Fails with the reason and with what to do instead when there is none.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes.info
  - saasops.runbook.store
options:
  run:
    description: Id of the run.
    type: str
    required: true
  host:
    description: Name of the host in the inventory.
    type: str
    required: true
seealso:
  - module: saasops.runbook.journal_info
"""

EXAMPLES = r"""
- name: See how to go back from a run
  saasops.runbook.guard_run_info:
    run: 20261122T201747Z-1a2b3c4d
    host: "{{ inventory_hostname }}"
    store:
      path: /var/backups/demo
  register: found
  failed_when: found.code | default('') not in ['', 'run_unknown', 'no_way_back']
"""

RETURN = r"""
undo:
  description: The verb that goes back, and its variables.
  returned: success
  type: dict
  sample:
    verb: undo
    restore: 20261122T201747Z-1a2b3c4d
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.guard_run_info import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import run_module
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "run": {"type": "str", "required": True},
    "host": {"type": "str", "required": True},
    **STORE_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
