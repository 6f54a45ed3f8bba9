#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: guard_approve
short_description: Approve a plan that a run keeps in the store
version_added: 0.2.0
description:
  - A verb that needs an approval keeps its plan in the system's store and says its id. This module agrees to that
    plan's envelope (kinds of action, their objects, ceilings) until a moment; the verb then runs as long as what it
    would do stays within it.
  - Who may approve is decided by who may write below C(approvals/) in the store; give the approver a credential of
    their own there. Whoever runs the verb cannot approve it, unless the system says so.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.store
options:
  system:
    description: Name of the system.
    type: str
    required: true
  plan:
    description: Id of the plan, from the refusal of the verb or from C(--check).
    type: str
    required: true
  by:
    description: Who approves.
    type: str
    required: true
  valid_for:
    description: How long the approval lasts, for instance V(4h).
    type: str
    default: 4h
seealso:
  - module: saasops.runbook.admission
"""

EXAMPLES = r"""
- name: Approve what was planned, for one hour
  saasops.runbook.guard_approve:
    system: demo
    plan: 20261122T201747Z-1a2b3c4d
    by: berta
    valid_for: 1h
    store:
      path: /var/backups/demo
"""

RETURN = r"""
approval:
  description: Key of the approval in the store.
  returned: when it was written, or stands already
  type: str
lines:
  description: What the plan does, a line each action.
  returned: success
  type: list
  elements: str
envelope:
  description: SHA-256 of what was agreed to.
  returned: success
  type: str
plan:
  description: What this module does.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.approve import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import run_module
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "plan": {"type": "str", "required": True},
    "by": {"type": "str", "required": True},
    "valid_for": {"type": "str", "default": "4h"},
    **STORE_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
