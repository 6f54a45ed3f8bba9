#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_triage_info
short_description: Take a first look at a PostgreSQL server in trouble
version_added: 0.3.0
description:
  - Finds a way in, also when every ordinary connection slot is taken, looks at a few things for a few seconds, and
    ends with at most three commands that answer what is wrong. Reads only; needs no store and takes no lock.
  - The ways are tried in this order; O(connection), O(rescue_connection), the server's Unix socket on this host as the
    user that the server runs as (when the module runs as root or as that user), or the socket inside the container.
  - It succeeds whatever state the server is in; RV(level) tells what was found. What did not answer in time is
    V(inconclusive), never ok.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes.info
  - saasops.runbook.connection
  - saasops.runbook.connection.rescue
options:
  system:
    description: Name of the system, for the first line.
    type: str
  database:
    description: The database to log in to; the maintenance database when it is left out, or does not exist.
    type: str
  data_directory:
    description: The server's data directory, for its disk when the server is down. Otherwise the server tells it.
    type: path
  seconds:
    description: How long the module may take.
    type: float
    default: 8
  inventory:
    description: Sources of the inventory, for the commands.
    type: list
    elements: str
    default: []
  limit:
    description: The host, for the commands, when the inventory has several.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: See what is wrong with the server
  saasops.runbook.pg_triage_info:
    connection:
      unix_socket: /run/postgresql
  register: seen

- name: Show it
  ansible.builtin.debug:
    msg: "{{ seen.lines }}"
"""

RETURN = r"""
level:
  description: The worst of all; V(ok), V(inconclusive), V(warning) or V(critical).
  returned: success
  type: str
  sample: critical
connected:
  description: The way that led in; V(given), V(rescue), V(socket), V(container), or empty.
  returned: success
  type: str
tried:
  description: What became of each way, as sentences.
  returned: success
  type: list
  elements: str
checks:
  description: What each check came to; name, level, value, unit, scope, why, detail, remedies.
  returned: success
  type: list
  elements: dict
commands:
  description: At most three commands to paste, the most urgent first.
  returned: success
  type: list
  elements: str
lines:
  description: All of it as lines for a terminal, the worst first.
  returned: success
  type: list
  elements: str
seconds:
  description: How long the look took.
  returned: success
  type: float
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.triage import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import (
    CONNECTION_SPEC,
    RESCUE_CONNECTION_SPEC,
)

SPEC = {
    "system": {"type": "str"},
    "database": {"type": "str"},
    "data_directory": {"type": "path"},
    "seconds": {"type": "float", "default": 8},
    "inventory": {"type": "list", "elements": "str", "default": []},
    "limit": {"type": "str", "default": ""},
    **CONNECTION_SPEC,
    **RESCUE_CONNECTION_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
