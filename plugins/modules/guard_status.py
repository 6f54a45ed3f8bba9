#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: guard_status
short_description: Show which run holds which lease, and what is open
version_added: 0.1.0
description:
  - Lists every lease in the store of a system, who holds it, with which verb, since when, and when it ends by itself.
  - With O(system) also what runs of it left open, and until when; and when routine work may run, which an action plugin
    judges on the controller.
  - Only reads, with rights to list and read alone. Times are measured on the clock of the host that reads, against the
    store's, so they are approximate; whoever takes a lease measures on the store's clock alone.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes.info
  - saasops.runbook.store
options:
  system:
    description: Name of the system whose open items are shown; without it only leases are.
    type: str
  calendar:
    description: Internal; set by the action plugin.
    type: list
    elements: str
attributes:
  action:
    description: An action plugin runs on the controller before the module.
    support: full
seealso:
  - module: saasops.runbook.guard_unlock
"""

EXAMPLES = r"""
- name: See whether a run is under way
  saasops.runbook.guard_status:
    store:
      path: /var/backups/demo
  register: guard

- name: Show who works there
  ansible.builtin.debug:
    var: guard.lines
"""

RETURN = r"""
leases:
  description: Every lease that was ever taken, by name.
  returned: success
  type: list
  elements: dict
  contains:
    lease:
      description: Name of the lease.
      type: str
      sample: database:app
    state:
      description:
        - V(held); V(expired), the next run takes it; V(left) or V(released), given back; V(unlocked); or V(unreadable).
      type: str
    run:
      description: Id of the run that took it last.
      type: str
    token:
      description: Number of the lease, which only grows.
      type: int
    operator:
      description: Who started the run.
      type: str
    controller:
      description: Name of the machine the run was started on.
      type: str
    verb:
      description: What the run does.
      type: str
    class:
      description: V(response) or V(routine).
      type: str
    reason:
      description: What the operator gave as a reason, or empty.
      type: str
    hosts:
      description: The hosts of the run that are not through yet.
      type: list
      elements: str
    taken:
      description: When the lease was taken, ISO 8601 in UTC, on the clock of the host that took it.
      type: str
    age:
      description: Seconds since then.
      type: float
    expires_in:
      description: Seconds until others may take it unless it is renewed; negative when expired, null when it is free.
      type: float
    ended:
      description: How it was ended (how, by, reason, at) when an object of its own did; else null.
      type: dict
open:
  description: Everything that is open in the system, as it is recorded, with its way back.
  returned: success
  type: list
  elements: dict
lines:
  description: The same as lines for a terminal.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.guard_status import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import run_module
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {"system": {"type": "str"}, "calendar": {"type": "list", "elements": "str"}, **STORE_SPEC}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
