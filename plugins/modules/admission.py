#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: admission
short_description: Decide once over all hosts of a run, and close it
version_added: 0.2.0
description:
  - The playbooks of routine verbs plan on every host, decide once for each system, and then apply. This module is
    the deciding step and the closing one; the planning and the applying are the verbs' own modules.
  - An action plugin of the same name gathers what only the controller knows. The same plugin runs before every
    changing module of this collection, so that a module that is called without these steps is decided about on
    its own.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.store
options:
  step:
    description:
      - V(decide) holds the plans of all hosts of the system against its rules, keeps them in the store, takes the
        lease and hands out the grant. It does so on the first host of each system that can be reached.
      - V(join) gives that grant to each host, or fails when there is none.
      - V(close) gives the lease back.
    type: str
    choices: [decide, join, close]
    required: true
  verb:
    description: The verb that is to run.
    type: str
    required: true
  system:
    description: Name of the system.
    type: str
    required: true
  database:
    description: Name of the database that the verb works on; part of the lease's name.
    type: str
    default: ""
  request:
    description: Internal; who asks, set by the action plugin.
    type: dict
    default: {}
  plans:
    description: Internal; the plan of each host, set by the action plugin.
    type: dict
    default: {}
attributes:
  action:
    description: An action plugin runs on the controller before the module.
    support: full
"""

EXAMPLES = r"""
- name: Decide about the plans of all hosts
  saasops.runbook.admission:
    step: decide
    verb: backup
    system: demo
    database: podcastflow
    store:
      path: /var/backups/demo
"""

RETURN = r"""
lines:
  description: The plan of each host and of the run, and what would be refused; for a person.
  returned: when step is decide
  type: list
  elements: str
against:
  description: Codes of what would be refused now.
  returned: in check mode
  type: list
  elements: str
grant:
  description: What the run was admitted for; run, plan, token, hosts and envelopes.
  returned: when step is decide
  type: dict
plan:
  description: One plan of all hosts, with its envelope.
  returned: when step is decide
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.admission import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import run_module
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "step": {"type": "str", "required": True, "choices": ["decide", "join", "close"]},
    "verb": {"type": "str", "required": True},
    "system": {"type": "str", "required": True},
    "database": {"type": "str", "default": ""},
    "request": {"type": "dict", "default": {}},
    "plans": {"type": "dict", "default": {}},
    **STORE_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
