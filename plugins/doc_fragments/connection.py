# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """The option connection, shared by every module that works with a PostgreSQL server."""

    DOCUMENTATION = r"""
options:
  connection:
    description:
      - How to log in to the PostgreSQL server, and where its client tools run.
      - What is left out is chosen by libpq, from the environment, C(~/.pgpass), a service file, or peer authentication.
      - The login role of backups and restores is best a superuser. Without that it needs the rights that the refusals
        name.
    type: dict
    default: {}
    suboptions:
      host:
        description: Host name or address. Empty takes libpq's default, a Unix-domain socket.
        type: str
        default: ""
      port:
        description: Port of the server, also part of the socket's file name.
        type: int
        default: 5432
      unix_socket:
        description: Folder of the server's Unix-domain socket; goes before O(connection.host).
        type: str
        default: ""
      user:
        description: Login role.
        type: str
        default: ""
      password:
        description:
          - Password of the login role. It reaches the client tools in a file of mode 0600 that lives as long as they
            do, never in their arguments or environment.
        type: str
      service:
        description: Section of the service file (C(~/.pg_service.conf)); then host, port, user and TLS come from it.
        type: str
        default: ""
      ssl_mode:
        description: How far TLS is required, as libpq's C(sslmode).
        type: str
        choices: [disable, allow, prefer, require, verify-ca, verify-full]
        default: prefer
      ca_cert:
        description: File with the certificate authorities, for V(verify-ca) and V(verify-full).
        type: path
      maintenance_database:
        description:
          - A database to work from when the database itself is created, renamed or dropped.
            It must be another one than the database that is restored.
        type: str
        default: postgres
      client_bin:
        description: Folder of the client tools (C(pg_dump), C(pg_restore), C(psql)); empty takes the search path.
        type: path
      session:
        description:
          - V(psycopg) uses the Python library psycopg2 where the module runs, V(psql) a C(psql) process through the
            transport. V(auto) takes psycopg2 when it is there and the transport is V(local).
        type: str
        choices: [auto, psycopg, psql]
        default: auto
      transport:
        description: Where the client tools run, V(local) on the host of the module, V(docker) in a container on it.
        type: str
        choices: [local, docker]
        default: local
      container:
        description: Name of the container, for O(connection.transport=docker).
        type: str
        default: ""
      container_user:
        description: User of the container's processes; empty takes the image's.
        type: str
        default: ""
      connect_timeout:
        description: Seconds to wait for a connection.
        type: int
        default: 10
"""

    # the second server of a drill: the same suboptions, and no such server when it is left out
    LIVE: str = (
        DOCUMENTATION.replace("  connection:\n", "  live_connection:\n")
        .replace("(connection.", "(live_connection.")
        .replace("    default: {}\n", "", 1)
        .replace(
            "How to log in to the PostgreSQL server, and where its client tools run.",
            "How to log in to the live server, when the option connection names a scratch server.",
        )
    )

    # a second way into the same server: the same suboptions, and none when it is left out
    RESCUE: str = (
        DOCUMENTATION.replace("  connection:\n", "  rescue_connection:\n")
        .replace("(connection.", "(rescue_connection.")
        .replace("    default: {}\n", "", 1)
        .replace(
            "How to log in to the PostgreSQL server, and where its client tools run.",
            "A second way into the same server that is tried when every ordinary connection slot is taken, for instance"
            " a role that may use the reserved slots.",
        )
    )
