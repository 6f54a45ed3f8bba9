# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage that is real: bytes of a page turned over on disk, and an index that lacks rows of its table."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.saasops.runbook.tests.lab.postgres import Server

PAGE = 8192


def turn_bytes(server: Server, database: str, relation: str, page: int = 0, at: int = 4000) -> Path:
    """Stop the server, turn sixteen bytes of a page of a relation over, and start it again; the file."""
    server.psql("CHECKPOINT", database)
    path = server.data / server.psql(f"SELECT pg_relation_filepath('{relation}')", database)
    server.stop("fast")
    with path.open("r+b") as file:
        file.seek(page * PAGE + at)
        found = file.read(16)
        file.seek(page * PAGE + at)
        file.write(bytes(byte ^ 0xFF for byte in found))
    server.start()
    return path


def lose_index_rows(server: Server, database: str, table: str, index: str, insert: str) -> None:
    """Rows that come in while the catalog says that the index takes none: it lacks them afterwards, and is valid."""
    server.psql(f"UPDATE pg_index SET indisready = false WHERE indexrelid = '{index}'::regclass", database)
    # another session, which has not cached what the table's indexes were
    server.psql(f"INSERT INTO {table} {insert}", database)
    server.psql(f"UPDATE pg_index SET indisready = true WHERE indexrelid = '{index}'::regclass", database)
