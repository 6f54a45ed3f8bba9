#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_discover_info
short_description: Look at a PostgreSQL server or a Docker host and draft an inventory
version_added: 0.1.0
description:
  - Lists the databases of a server with sizes, extensions, schemas that look like tenants, and what needs attention
    before the first backup or restore.
  - Or lists the running containers of a Docker host that run PostgreSQL, with what their environment tells of
    database and user. Passwords are never read.
  - Only reads.
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes.info
  - saasops.runbook.connection
options:
  look_at:
    description: V(server) looks at the server of O(connection), V(containers) at the Docker engine of the host.
    type: str
    choices: [server, containers]
    default: server
  database:
    description: Look at this database only; the connection is made to it, so that no maintenance database is needed.
    type: str
  variables:
    description: Inventory variables that the draft repeats for each host, for instance C(ansible_host).
    type: dict
    default: {}
seealso:
  - module: saasops.runbook.pg_backup
"""

EXAMPLES = r"""
- name: Look at the server of this host
  saasops.runbook.pg_discover_info:
    connection:
      unix_socket: /run/postgresql
      user: postgres
  register: found

- name: Show the drafted inventory
  ansible.builtin.debug:
    msg: "{{ found.inventory }}"
"""

RETURN = r"""
server:
  description: Version, login role and its rights, roles, and signs of backups that are made already.
  returned: success
  type: dict
databases:
  description: The databases that the role may log in to, the largest first; the maintenance database is left out.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the database.
      type: str
    owner:
      description: Its owner.
      type: str
    bytes:
      description: Its size on disk.
      type: int
    encoding:
      description: Its encoding.
      type: str
    schemas:
      description: Number of schemas.
      type: int
    tables:
      description: Number of tables, partitions not counted.
      type: int
    extensions:
      description: Name and version of each extension.
      type: dict
    tenants:
      description:
        - Groups of at least three schemas with a common prefix and the same tables; each with the pattern, the schemas,
          the number of tables, and other schemas that match the pattern.
      type: list
      elements: dict
    attention:
      description: What needs attention, each with code, text, remedy, and the verb that it stops.
      type: list
      elements: dict
skipped:
  description: Names of databases that were not looked at.
  returned: success
  type: list
  elements: str
containers:
  description: Running containers that run PostgreSQL.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the container.
      type: str
    image:
      description: Its image.
      type: str
    version:
      description: Major version as the image tells it.
      type: str
    database:
      description: Name of the database that the image was told to make.
      type: str
    user:
      description: Name of the superuser that the image was told to make.
      type: str
    state:
      description: State as Docker has it.
      type: str
    ports:
      description: Where the server's port is published on the host.
      type: list
      elements: str
    volume:
      description: The volume or folder that holds the data; empty when the data go away with the container.
      type: str
    compose_project:
      description: Name of the compose project.
      type: str
inventory:
  description: A drafted inventory, YAML with comments for what must be filled in.
  returned: success
  type: str
lines:
  description: What was found, as a person reads it.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.discover import execute
from ansible_collections.saasops.runbook.plugins.module_utils.module import run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import CONNECTION_SPEC

SPEC = {
    "look_at": {"type": "str", "choices": ["server", "containers"], "default": "server"},
    "database": {"type": "str"},
    "variables": {"type": "dict", "default": {}},
    **CONNECTION_SPEC,
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
