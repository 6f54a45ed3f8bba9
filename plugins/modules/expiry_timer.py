#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: expiry_timer
short_description: Make a systemd timer that ends something at its time
version_added: 0.2.0
description:
  - A mitigation that is to end by itself needs somebody who ends it when the controller is gone. This module makes a
    timer and a service of systemd on the host, before the act; they end it at its time, try every 15 seconds until
    that succeeded, and then remove themselves.
  - The timer survives a restart of the host. A time that passed while the host was down is made up for.
  - Without systemd, or without root, it is refused before anything was done.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.store
options:
  system:
    description: Name of the system, for the journal.
    type: str
    required: true
  id:
    description: What it ends; the units are called C(saasops-expiry-<id>). The same id replaces an earlier timer.
    type: str
    required: true
  state:
    description: V(present) makes the timer, V(absent) removes it, which is no error when it is gone.
    type: str
    choices: [present, absent]
    default: present
  at:
    description: When it acts, a time in UTC such as V(2026-12-31T12:00:00Z). Required when O(state=present).
    type: str
  argv:
    description:
      - What it runs, a list whose first word is an absolute path; no shell reads it. It must change nothing when what
        it ends is over already. Required when O(state=present).
      - Everybody on the host can read it, so it holds no secret.
    type: list
    elements: str
  environment:
    description: Variables for it; everybody on the host can read them.
    type: dict
    default: {}
  user:
    description: Who runs it.
    type: str
    default: root
  pgpass:
    description:
      - A password for programs of PostgreSQL. It waits in a file of mode 0600 that O(user) owns, named by
        C(PGPASSFILE), and is removed with the timer.
    type: str
  description:
    description: What it ends, for people who look at the host's timers.
    type: str
    default: ""
  persistent:
    description: Whether the timer survives a restart of the host.
    type: bool
    default: true
seealso:
  - module: saasops.runbook.pg_hold
"""

EXAMPLES = r"""
- name: Let the maintenance page go at ten
  saasops.runbook.expiry_timer:
    system: demo
    id: maintenance-page
    at: "2099-12-31T22:00:00Z"
    argv: [/usr/bin/rm, -f, /run/maintenance]
    store:
      path: /var/backups/demo

- name: It went early, by hand
  saasops.runbook.expiry_timer:
    system: demo
    id: maintenance-page
    state: absent
    store:
      path: /var/backups/demo
"""

RETURN = r"""
unit:
  description: Name of the timer's unit.
  returned: success
  type: str
  sample: saasops-expiry-maintenance-page.timer
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.expiry_timer import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "id": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "at": {"type": "str"},
    "argv": {"type": "list", "elements": "str"},
    "environment": {"type": "dict", "default": {}},
    "user": {"type": "str", "default": "root"},
    "pgpass": {"type": "str", "no_log": True},
    "description": {"type": "str", "default": ""},
    "persistent": {"type": "bool", "default": True},
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute, required_if=[("state", "present", ["at", "argv"])])


if __name__ == "__main__":
    main()
