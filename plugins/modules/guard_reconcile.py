#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: guard_reconcile
short_description: Put back what is open and whose run is over
version_added: 0.2.0
description:
  - Finds what runs of a system opened and did not close, and puts it back when its run is over - open items (a hold
    past its end), restores and switches that were left on their way, poolers that were left paused, leases of runs
    whose controller process is gone or which expired. Says which runs were interrupted.
  - That a run is over is proven by its process on this controller, by an expired lease, or said by the operator with
    O(run). A restore is concluded under the database's advisory lock, which a living run holds.
  - What may still be at work is listed and left alone. A second run changes nothing.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.connection
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.store
options:
  system:
    description: Name of the system.
    type: str
    required: true
  run:
    description: Id of a run that is known to be over although nothing here proves it, for instance because its
      controller lost its power.
    type: str
  poolers:
    description: Poolers before the databases, as M(saasops.runbook.pg_swap) takes them; one that a dead run left
      paused is resumed.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: Host name or address, as the host of the client tools sees it.
        type: str
        default: ""
      port:
        description: Port of the pooler, also part of the socket's file name.
        type: int
        default: 6432
      unix_socket:
        description: Folder of the pooler's Unix-domain socket; goes before O(poolers[].host).
        type: str
        default: ""
      user:
        description: A user of C(admin_users) in the pooler's configuration; one of C(stats_users) may not pause.
        type: str
        default: ""
      password:
        description: Password of that user, as the pooler's C(auth_file) has it.
        type: str
      database:
        description: Pause only the database that clients know by this name; empty takes all that lead to the live one.
        type: str
        default: ""
      pause_timeout:
        description: Seconds that running transactions are given to end before the renames end them.
        type: int
        default: 5
      ssl_mode:
        description: How far TLS is required, as libpq's C(sslmode).
        type: str
        choices: [disable, allow, prefer, require, verify-ca, verify-full]
        default: prefer
      ca_cert:
        description: File with the certificate authorities, for V(verify-ca) and V(verify-full).
        type: path
  dead_runs:
    description: Internal; set by admission.
    type: list
    elements: str
  own_run:
    description: Internal; set by admission.
    type: str
seealso:
  - module: saasops.runbook.guard_status
  - module: saasops.runbook.guard_unlock
"""

EXAMPLES = r"""
- name: Put back what dead runs left
  saasops.runbook.guard_reconcile:
    system: demo
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo
  register: reconciled
"""

RETURN = r"""
reverted:
  description: What was put back and what was found interrupted, a sentence each.
  returned: success
  type: list
  elements: str
working:
  description: What is open and left alone, because its run may be at work or it is not over yet.
  returned: success
  type: list
  elements: str
processes:
  description: Processes of the runs that something is open of, by run; admission proves them dead.
  returned: success
  type: dict
lines:
  description: All of it for a terminal.
  returned: success
  type: list
  elements: str
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.guard_reconcile import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import CONNECTION_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.pooler import POOLERS_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "run": {"type": "str"},
    "dead_runs": {"type": "list", "elements": "str"},
    "own_run": {"type": "str"},
    **CONNECTION_SPEC,
    **POOLERS_SPEC,
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
