# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A transaction-mode pooler in the way is found out before anything depends on a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab.acts import connection, take_backup
from ansible_collections.saasops.runbook.tests.lab.pgbouncer import pgbouncer
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)


def test_a_transaction_pooler_is_refused(server: Server, database: str, tmp_path: Path) -> None:
    with pgbouncer(server, "transaction") as pooler, pytest.raises(OpsError) as caught:
        take_backup(server, tmp_path, database, connection=connection(server, port=pooler.port))
    assert caught.value.code == "pooled_connection"
    assert list(tmp_path.rglob("*.json")) == []


def test_a_session_pooler_serves(server: Server, database: str, tmp_path: Path) -> None:
    with pgbouncer(server, "session") as pooler:
        assert take_backup(server, tmp_path, database, connection=connection(server, port=pooler.port)).changed
