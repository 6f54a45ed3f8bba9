#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_swap
short_description: Switch a verified restore with the live PostgreSQL database, undo that, or finish it
version_added: 0.1.0
description:
  - Both renames of a switch happen in one transaction, while a second session ends whoever is connected; newcomers wait
    for the commit. A kill at any moment leaves the live database whole and open.
  - What the switch or the undo loses is counted per table from the server's statistics and shown before and after.
  - Owner, grants, settings, limits, comment and labels of the live database are handed on to the one that takes over,
    and its sequences are advanced to the live ones, so that no number is handed out twice.
  - The database that steps aside is kept, closed to everybody, until it is finished.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.connection
  - saasops.runbook.store
options:
  system:
    description: Name of the system that the database belongs to.
    type: str
    required: true
  database:
    description: Name of the live database.
    type: str
    required: true
  state:
    description:
      - V(switched) gives the live name to the database that M(saasops.runbook.pg_restore) verified.
      - V(undone) gives it back to the old database. It refuses when rows were written since the switch, unless exactly
        that many are acknowledged.
      - V(finished) drops the database that stands aside, once a proven backup of the live one exists that is younger
        than the switch.
    type: str
    required: true
    choices: [switched, undone, finished]
  restore:
    description: Id of the restore, or V(latest).
    type: str
    default: latest
  acknowledge_loss:
    description: For O(state=undone), the number of rows that may be lost, as the refusal says it.
    type: int
  poolers:
    description:
      - PgBouncers through which clients come to the database. For V(switched) and V(undone) they are all told to
        C(PAUSE) it before the first rename and to C(RESUME) it after the last, so that their clients see a wait and no
        error.
      - Every pool of a pooler that leads to the live database is paused, whatever it is called there. One that somebody
        else had paused is left alone.
      - A transaction that does not end in time is ended by the switch, as it would be without a pooler; so are clients
        of a pool of sessions. All others wait.
      - A pool is resumed whatever becomes of the module, also when it is killed; nobody waits for longer than 30
        seconds.
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
seealso:
  - module: saasops.runbook.pg_restore
  - module: saasops.runbook.pg_backup
"""

EXAMPLES = r"""
- name: Let the newest verified restore take the live database's place
  saasops.runbook.pg_swap:
    system: demo
    database: podcastflow
    state: switched
    connection:
      unix_socket: /run/postgresql
      user: postgres
    store:
      path: /var/backups/demo

- name: Let clients that come through PgBouncer wait meanwhile
  saasops.runbook.pg_swap:
    system: demo
    database: podcastflow
    state: switched
    connection:
      unix_socket: /run/postgresql
      user: postgres
    store:
      path: /var/backups/demo
    poolers:
      - host: 127.0.0.1
        port: 6432
        user: pool_admin
        password: "{{ pool_admin_password }}"

- name: Go back to the database of before the switch
  saasops.runbook.pg_swap:
    system: demo
    database: podcastflow
    state: undone
    connection:
      unix_socket: /run/postgresql
      user: postgres
    store:
      path: /var/backups/demo
"""

RETURN = r"""
restore:
  description: The record of the restore that was acted on.
  returned: success
  type: dict
  contains:
    id:
      description: Id of the restore.
      type: str
    set:
      description: Id of the set that was restored.
      type: str
    database:
      description: Name of the live database.
      type: str
    state:
      description: V(switched), V(undone) or V(finished).
      type: str
    aside:
      description: Name of the database that stands aside, closed.
      type: str
    snapshot_at:
      description: The moment that the set shows, ISO 8601 in UTC.
      type: str
    switched_at:
      description: The moment of the switch.
      type: str
    undone_at:
      description: The moment of the undo.
      type: str
losses:
  description: Rows written since the backup (switch) or since the switch (undo), which the live database lost.
  returned: for O(state=switched) and O(state=undone)
  type: dict
  contains:
    rows:
      description: Rows inserted, updated and deleted, in all.
      type: int
    exact:
      description: False when the statistics were reset meanwhile; then the numbers are the least that was lost.
      type: bool
    tables:
      description: The same for each table.
      type: dict
attempts:
  description: How often the renames were tried.
  returned: changed
  type: int
sessions_ended:
  description: Sessions that were ended for the renames.
  returned: changed
  type: int
rename_seconds:
  description: Time from the first lock to the commit.
  returned: changed
  type: float
paused:
  description: Pools whose clients waited, as C(name at host:port).
  returned: changed, when there are poolers
  type: list
  elements: str
paused_seconds:
  description: How long they waited at most.
  returned: changed, when there are poolers
  type: float
cleaned:
  description: What an interrupted run had left and this one concluded, a sentence each.
  returned: success
  type: list
  elements: str
plan:
  description: What was decided, with its envelope; losses are among its warnings.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.swap import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import CONNECTION_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.pooler import POOLERS_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "state": {"type": "str", "required": True, "choices": ["switched", "undone", "finished"]},
    "restore": {"type": "str", "default": "latest"},
    "acknowledge_loss": {"type": "int"},
    **POOLERS_SPEC,
    **CONNECTION_SPEC,
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
