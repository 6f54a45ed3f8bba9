#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_sessions
short_description: End sessions that do harm, and no others
version_added: 0.3.0
description:
  - Ends the sessions that a policy means (O(policy)), those that are idle in a transaction for so long
    (O(idle_in_transaction)), or those that somebody names (O(pid), O(user)). With none of them it changes nothing and
    shows who is connected, who waits for whom, and what each policy would do.
  - A session that runs a statement is cancelled first, and terminated when that did not help within O(patience)
    seconds. Who is idle in a transaction is terminated at once, because a cancel does nothing to him.
  - A session is signalled in one statement and only while its pid, its start and what it was chosen for are still
    the same. Whoever moved on meanwhile is left alone.
  - Never ended are walsenders, base backups, running verbs of this collection, an autovacuum that prevents wraparound,
    other processes of the server, and this run. Superusers, and what looks like a backup, are ended only when they
    are named.
  - Members of connection pools are never ended for being idle.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.connection
  - saasops.runbook.connection.rescue
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.store
attributes:
  check_mode:
    details:
      - Shows exactly the sessions that would be ended at this moment.
  idempotent:
    details:
      - Nothing is changed when no session is meant any more.
options:
  system:
    description: Name of the system.
    type: str
    required: true
  database:
    description: The database that the system uses. Sessions of all databases of the server are looked at; in this one
      the tables that others wait for have names.
    type: str
  policy:
    description: Names of the policies to apply, in this order.
    type: list
    elements: str
  policies:
    description:
      - The policies of this system, beside the built-in ones (V(blockers), V(idle_in_transaction), V(idle),
        V(long_queries)), which an entry of the same name replaces. The guide on sessions lists the keys of an entry.
    type: list
    elements: dict
  pools:
    description: Who is a member of a connection pool, beside what is told by many sessions that look alike.
    type: dict
    suboptions:
      application:
        description: Shell-like patterns of C(application_name).
        type: list
        elements: str
        default: []
      user:
        description: Shell-like patterns of users.
        type: list
        elements: str
        default: []
  idle_in_transaction:
    description: End the sessions that are idle in a transaction for longer than this (V(90s), V(5m)), whatever policies
      there are; those whose transaction is oldest first, and at most 10 or O(limit).
    type: str
  pid:
    description: End this one session. A parallel worker stands for its leader.
    type: int
  user:
    description: End the sessions of this user; the name is no pattern.
    type: str
  gid:
    description: Roll back the prepared transaction of this name. No policy does that.
    type: str
  limit:
    description: The most sessions that this run ends; a policy's own limit is not raised by it. For O(user) and
      O(idle_in_transaction) it is 10 when left out.
    type: int
  patience:
    description: Seconds that a session is given to end after a cancel, and again after a termination.
    type: int
    default: 5
"""

EXAMPLES = r"""
- name: Show who is connected and who waits for whom
  saasops.runbook.pg_sessions:
    system: demo
    database: podcastflow
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo

- name: End the sessions that block others
  saasops.runbook.pg_sessions:
    system: demo
    database: podcastflow
    policy: [blockers]
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo

- name: End what was idle in a transaction for more than two minutes, with a policy of this system
  saasops.runbook.pg_sessions:
    system: demo
    database: podcastflow
    policy: [forgotten]
    policies:
      - name: forgotten
        state: [idle in transaction]
        idle_over: 2m
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo
"""

RETURN = r"""
lines:
  description: What an operator reads; connections, who waits for whom, who is ended and why, who is left alone and why.
    Values in statements are left out.
  returned: success
  type: list
  elements: str
ended:
  description: What became of each session, with C(how) (V(cancelled), V(terminated), V(moved on)), C(over), C(gone).
  returned: success
  type: list
  elements: dict
spared:
  description: Sessions that were meant and left alone, and why.
  returned: success
  type: list
  elements: dict
listed:
  description: Sessions that a policy only shows.
  returned: success
  type: list
  elements: dict
before:
  description: Numbers of before, C(blocked), C(free_slots), C(used_slots), C(max_connections).
  returned: success
  type: dict
after:
  description: The same afterwards.
  returned: success
  type: dict
rescued:
  description: Whether the rescue connection was the way in.
  returned: success
  type: bool
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.sessions import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import (
    CONNECTION_SPEC,
    RESCUE_CONNECTION_SPEC,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

_PATTERNS = {"type": "list", "elements": "str", "default": []}
SPEC = {
    "system": {"type": "str", "required": True},
    "database": {"type": "str"},
    "policy": {"type": "list", "elements": "str"},
    "policies": {"type": "list", "elements": "dict"},
    "pools": {"type": "dict", "options": {"application": _PATTERNS, "user": _PATTERNS}},
    "idle_in_transaction": {"type": "str"},
    "pid": {"type": "int"},
    "user": {"type": "str"},
    "gid": {"type": "str"},
    "limit": {"type": "int"},
    "patience": {"type": "int", "default": 5},
    **RESCUE_CONNECTION_SPEC,
    **CONNECTION_SPEC,
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(SPEC, execute, mutually_exclusive=[("policy", "idle_in_transaction", "pid", "user", "gid")])


if __name__ == "__main__":
    main()
