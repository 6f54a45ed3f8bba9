#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_migrate
short_description: Apply schema migrations without making readers wait, and go back from them
version_added: 0.3.0
description:
  - The engine V(sql) runs the files C(NNN_name.sql) of a folder, in the order of their numbers, and keeps a ledger of
    them in the database. Each file is one transaction together with its row in the ledger, unless it says that it
    cannot be.
  - A transaction takes its locks first, in tries so short that nobody queues long behind them, and has a limit from its
    first lock on. So a reader never waits longer than O(lock_limit).
  - The engine V(command) runs the application's own migrator, with time limits that the server enforces, and reads its
    ledger before and after.
  - Nothing is begun without a proven backup that is young enough, and without a run of the same files on a copy, unless
    that is switched off by name; that goes into the journal.
  - All reasons against a migration are looked for first and refused together, before anything is changed.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes
  - saasops.runbook.connection
  - saasops.runbook.guarded
  - saasops.runbook.store.guard_anchor
  - saasops.runbook.store
attributes:
  idempotent:
    details:
      - What the ledger has is not run again.
    support: full
options:
  system:
    description: Name of the system.
    type: str
    required: true
  database:
    description: The database that is migrated.
    type: str
    required: true
  engine:
    description: V(sql) for files of SQL, V(command) for the application's own migrator.
    type: str
    choices: [sql, command]
    default: sql
  state:
    description:
      - V(applied) applies what is pending. V(rehearsed) does the same in a copy, where no backup and no rehearsal is
        asked for, and puts on record that it went well. V(undone) goes back from what one run applied.
    type: str
    choices: [applied, rehearsed, undone]
    default: applied
  files:
    description: The files, their names and their texts; instead of O(path).
    type: dict
  path:
    description: Folder of the host that the module runs on with the files.
    type: path
  to:
    description: The last number that is applied; all without it.
    type: int
  baseline:
    description: Write every file up to this number down as applied, and run nothing; V(0) for an empty ledger.
    type: int
  run:
    description: The run that O(state=undone) goes back from.
    type: str
  rehearses:
    description: With O(state=rehearsed) the database that the rehearsal is for; O(database) is the copy.
    type: str
  expect:
    description: With O(state=rehearsed) the numbers that go on record; those that ran without it.
    type: list
    elements: str
    default: []
  rehearse_undo:
    description: With O(state=rehearsed) also run the undo scripts and apply the files again.
    type: bool
    default: true
  tenants:
    description: Patterns of the tenants' schemas, for files that say C(tenants=true).
    type: list
    elements: str
    default: []
  ledger_schema:
    description: Schema of the ledger, the table C(migrations). It is made when it is missing.
    type: str
    default: saasops
  backup:
    description: V(required) refuses to begin without a proven set of the whole database; V(off) goes without.
    type: str
    choices: ['required', 'off']
    default: required
  backup_max_age:
    description: How old that set may be.
    type: str
    default: 1h
  staging:
    description: V(required) refuses to begin when the files did not run on a copy; V(off) goes without.
    type: str
    choices: ['required', 'off']
    default: required
  staging_max_age:
    description: How long ago that may have been.
    type: str
    default: 24h
  lock_limit:
    description:
      - How long a transaction may last from its first lock on, and so how long a reader may wait behind it. A file may
        ask for another one with C(lock_limit=).
    type: str
    default: 5s
  lock_timeout:
    description: How long one try may queue for all locks of a file together.
    type: str
    default: 500ms
  lock_wait:
    description: How long such tries are repeated.
    type: str
    default: 60s
  limit:
    description: How long one statement of a file that is no single transaction may last, and the command of the engine
      V(command).
    type: str
    default: 1h
  command:
    description:
      - The application's own migrator, for the engine V(command). It runs on the host of the module, with a clean
        environment. There it finds C(PGHOST), C(PGPORT), C(PGUSER), C(PGDATABASE), C(PGPASSFILE), C(PGAPPNAME) and
        C(PGOPTIONS) with the time limits.
    type: dict
    suboptions:
      argv:
        description: Program and arguments; never a password.
        type: list
        elements: str
        required: true
      chdir:
        description: The folder that it runs in.
        type: path
      user:
        description: The user that it runs as; the module's own without it.
        type: str
      environment:
        description:
          - More variables. C({url}), C({host}), C({port}), C({user}), C({database}), C({password}) and C({options})
            stand for where it is to work.
        type: dict
        default: {}
      url_variable:
        description: The variable that gets the whole address, for instance V(DATABASE_URL).
        type: str
      host:
        description: The server as the migrator reaches it, when that is not O(connection.host).
        type: str
      port:
        description: Its port, when that is not O(connection.port).
        type: int
      login:
        description: The role that it logs in as, when that is not O(connection.user).
        type: str
      folder:
        description: Where its files lie, below O(command.chdir). Without it nobody can tell what is pending.
        type: str
      suffixes:
        description: What is taken off the files' names before they are looked for in the ledger, for instance V(.js).
        type: list
        elements: str
        default: []
      ledger:
        description: Where it keeps what it applied.
        type: dict
        required: true
        suboptions:
          table:
            description: The table, with its schema where the search path does not have it.
            type: str
            required: true
          version_column:
            description: The column of the names.
            type: str
            required: true
          order:
            description: The column that tells the order; the names without it.
            type: str
  secrets:
    description:
      - Variables of the migrator's environment that are secret; they are taken out of its output, too. V(password)
        is the password of O(command.login) and no variable.
    type: dict
seealso:
  - module: saasops.runbook.pg_backup
  - module: saasops.runbook.pg_restore
"""

EXAMPLES = r"""
- name: Write down what ran before there was a ledger
  saasops.runbook.pg_migrate:
    system: demo
    database: podcastflow
    path: /srv/podcastflow/migrations
    baseline: 1
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo

- name: Apply what is pending, without a copy
  saasops.runbook.pg_migrate:
    system: demo
    database: podcastflow
    path: /srv/podcastflow/migrations
    staging: 'off'
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo
"""

RETURN = r"""
pending:
  description: What was pending before.
  returned: success
  type: list
  elements: dict
  contains:
    version:
      description: The number, as in the file's name.
      type: str
    name:
      description: The rest of the name.
      type: str
    checksum:
      description: SHA-256 of the normalised text.
      type: str
    schemas:
      description: Where it runs; one empty name for the whole database.
      type: list
      elements: str
    transactional:
      description: Whether it is one transaction.
      type: bool
    compatible_with_previous:
      description: Whether the release before works with the schema after it; null when the file does not say.
      type: bool
    undo:
      description: Whether it has an undo script.
      type: bool
    statements:
      description: How many statements it has.
      type: int
    locks:
      description: The strongest lock on each table that was there before, as far as the text tells.
      type: dict
    unknown_locks:
      description: Kinds of statements whose locks the text does not tell.
      type: list
      elements: str
    warnings:
      description: What makes it dangerous.
      type: list
      elements: str
    notes:
      description: What is good to know.
      type: list
      elements: str
applied:
  description: What was applied, file and schema.
  returned: success
  type: list
  elements: str
undone:
  description: What was undone, file and schema.
  returned: when O(state=undone) or O(state=rehearsed)
  type: list
  elements: str
output:
  description: The last lines of the command, secrets taken out.
  returned: when O(engine=command) ran it
  type: list
  elements: str
limits_taken:
  description: Whether the command gave up on a lock at O(lock_timeout); null when that could not be seen.
  returned: when O(engine=command) and O(state=rehearsed)
  type: bool
said:
  description: What was found of interrupted runs.
  returned: when something was applied
  type: list
  elements: str
lines:
  description: What is pending, or would be undone, for a person; with locks and warnings.
  returned: success
  type: list
  elements: str
lacks:
  description: Codes of what would be refused now because a backup or a rehearsal is missing.
  returned: in check mode
  type: list
  elements: str
run:
  description: The run under which the ledger keeps it.
  returned: success
  type: str
plan:
  description: What was decided, with its envelope.
  returned: success
  type: dict
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.migrate import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import GUARD_SPEC, run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import CONNECTION_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "engine": {"type": "str", "choices": ["sql", "command"], "default": "sql"},
    "state": {"type": "str", "choices": ["applied", "rehearsed", "undone"], "default": "applied"},
    "files": {"type": "dict"},
    "path": {"type": "path"},
    "to": {"type": "int"},
    "baseline": {"type": "int"},
    "run": {"type": "str"},
    "rehearses": {"type": "str"},
    "expect": {"type": "list", "elements": "str", "default": []},
    "rehearse_undo": {"type": "bool", "default": True},
    "tenants": {"type": "list", "elements": "str", "default": []},
    "ledger_schema": {"type": "str", "default": "saasops"},
    "backup": {"type": "str", "choices": ["required", "off"], "default": "required"},
    "backup_max_age": {"type": "str", "default": "1h"},
    "staging": {"type": "str", "choices": ["required", "off"], "default": "required"},
    "staging_max_age": {"type": "str", "default": "24h"},
    "lock_limit": {"type": "str", "default": "5s"},
    "lock_timeout": {"type": "str", "default": "500ms"},
    "lock_wait": {"type": "str", "default": "60s"},
    "limit": {"type": "str", "default": "1h"},
    "command": {
        "type": "dict",
        "options": {
            "argv": {"type": "list", "elements": "str", "required": True},
            "chdir": {"type": "path"},
            "user": {"type": "str"},
            "environment": {"type": "dict", "default": {}},
            "url_variable": {"type": "str"},
            "host": {"type": "str"},
            "port": {"type": "int"},
            "login": {"type": "str"},
            "folder": {"type": "str"},
            "suffixes": {"type": "list", "elements": "str", "default": []},
            "ledger": {
                "type": "dict",
                "required": True,
                "options": {
                    "table": {"type": "str", "required": True},
                    "version_column": {"type": "str", "required": True},
                    "order": {"type": "str"},
                },
            },
        },
    },
    "secrets": {"type": "dict", "no_log": True},
    **CONNECTION_SPEC,
    **STORE_SPEC,
    **GUARD_SPEC,
}


def main() -> None:
    run_module(
        SPEC,
        execute,
        required_if=[
            ("state", "undone", ["run"]),
            ("state", "rehearsed", ["rehearses"]),
            ("engine", "command", ["command"]),
        ],
        mutually_exclusive=[("files", "path"), ("to", "baseline")],
    )


if __name__ == "__main__":
    main()
