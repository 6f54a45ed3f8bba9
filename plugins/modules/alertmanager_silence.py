#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: alertmanager_silence
short_description: Silence alerts in Alertmanager for a time
version_added: 0.2.0
description:
  - Makes, extends or ends a silence through Alertmanager's API v2.
  - Two silences are the same when comment and matchers are, as long as they have not expired. A later end extends the
    one that stands; an earlier one does not shorten it unless O(shorten) says so.
  - When two runs ask for the same silence at the same moment, one stands in the end, and both are given its id.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.store
  - saasops.runbook.alertmanager
options:
  system:
    description: Name of the system, for its journal.
    type: str
    required: true
  state:
    description:
      - V(present) lets the silence stand.
      - V(absent) ends every living silence that is the same, or the one of O(id).
    type: str
    choices: [present, absent]
    default: present
  matchers:
    description: Conditions on the labels of an alert; all of them must hold.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the label.
        type: str
        required: true
      value:
        description: Its value, or a regular expression (RE2) that must match the whole of it.
        type: str
        required: true
      is_regex:
        description: Whether O(matchers[].value) is a regular expression. Alertmanager itself judges it.
        type: bool
        default: false
      is_equal:
        description: V(false) turns the condition round.
        type: bool
        default: true
  comment:
    description: Why these alerts are silent.
    type: str
  created_by:
    description: Whom Alertmanager shows as the author of a new silence.
    type: str
    default: saasops.runbook
  starts:
    description: When it begins, ISO 8601 with a zone; now, if left out.
    type: str
  ends:
    description: When it ends, ISO 8601 with a zone.
    type: str
  duration:
    description:
      - How long it lasts from its own start, for instance V(2h). Running the task again does not extend it; a longer
        duration does. Differences of up to a minute between the clocks are passed over.
    type: str
  shorten:
    description: Take over an earlier end, too.
    type: bool
    default: false
  id:
    description: With O(state=absent), the id of the silence to end.
    type: str
"""

EXAMPLES = r"""
- name: Silence the alerts of a host while its disk is exchanged
  saasops.runbook.alertmanager_silence:
    system: demo
    alertmanager:
      url: http://alertmanager.example.com:9093
    matchers:
      - name: instance
        value: db1
      - name: severity
        value: info|warning
        is_regex: true
    comment: the disk of db1 is exchanged
    duration: 2h
    store:
      path: /var/backups/demo

- name: The disk is in place
  saasops.runbook.alertmanager_silence:
    system: demo
    alertmanager:
      url: http://alertmanager.example.com:9093
    matchers:
      - name: instance
        value: db1
      - name: severity
        value: info|warning
        is_regex: true
    comment: the disk of db1 is exchanged
    state: absent
    store:
      path: /var/backups/demo
"""

RETURN = r"""
id:
  description:
    - Id of the silence. Empty when there is none, and in check mode when it would be a new one.
    - Alertmanager gives a silence another id when its start or its matchers change.
  returned: success
  type: str
  sample: 8b3c1d0e-5f0a-4a52-b0a8-6c1c2a2f7e11
silence:
  description: The silence that stands; id, matchers, starts, ends, comment and created_by.
  returned: when O(state=present)
  type: dict
ended:
  description: Ids of the silences that were ended.
  returned: when O(state=absent)
  type: list
  elements: str
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.alertmanager_silence import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.providers.alertmanager import (
    ALERTMANAGER_SPEC,
    MATCHERS_SPEC,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "alertmanager": {"type": "dict", "required": True, "options": ALERTMANAGER_SPEC},
    "matchers": MATCHERS_SPEC,
    "comment": {"type": "str"},
    "created_by": {"type": "str", "default": "saasops.runbook"},
    "starts": {"type": "str"},
    "ends": {"type": "str"},
    "duration": {"type": "str"},
    "shorten": {"type": "bool", "default": False},
    "id": {"type": "str"},
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(
        SPEC,
        execute,
        required_if=[
            ("state", "present", ["matchers", "comment"]),
            ("state", "present", ["ends", "duration"], True),
            ("state", "absent", ["matchers", "id"], True),
        ],
        required_by={"matchers": ["comment"], "comment": ["matchers"]},
        mutually_exclusive=[("ends", "duration"), ("id", "matchers"), ("id", "comment")],
    )


if __name__ == "__main__":
    main()
