#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: guard_unlock
short_description: End a lease whose run is known to be gone
version_added: 0.1.0
description:
  - Ends a lease with a recorded reason, so that the next run need not wait until it expires.
  - A run that still lives notices at its next point of no return, refuses to go on with the error C(lease_lost), and
    changes nothing past that point. An act that it has begun already is not stopped by this.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.store
options:
  lease:
    description:
      - Name of the lease, as M(saasops.runbook.guard_status) shows it.
      - It may be left out while a single one is held.
    type: str
  run:
    description: End the lease only when this run holds it, so that a run that began meanwhile keeps it.
    type: str
  reason:
    description: Why the run is known to be gone. An empty one is refused.
    type: str
    required: true
  by:
    description: Who says so, for the record.
    type: str
seealso:
  - module: saasops.runbook.guard_status
"""

EXAMPLES = r"""
- name: End the only lease that is held
  saasops.runbook.guard_unlock:
    reason: the controller lost its power, nobody works there
    by: anna
    store:
      path: /var/backups/demo

- name: End one of several leases
  saasops.runbook.guard_unlock:
    lease: database:app
    reason: the run hangs and was killed
    store:
      path: /var/backups/demo
"""

RETURN = r"""
ended:
  description: The lease as it was, as M(saasops.runbook.guard_status) returns it; null when none was held.
  returned: success
  type: dict
  sample:
    lease: database:app
    operator: anna
    state: held
    verb: restore
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.guard_unlock import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import run_module
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "lease": {"type": "str"},
    "run": {"type": "str"},
    "reason": {"type": "str", "required": True},
    "by": {"type": "str"},
    **STORE_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
