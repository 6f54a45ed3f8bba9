# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits that an application's migrator gets from the server, and what is left for it to do."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.migrate_command import (
    left_of,
    parse_command,
    pgoptions,
)

BASE = "-c lock_timeout=500 -c statement_timeout=3600000 -c idle_in_transaction_session_timeout=5000"


@pytest.mark.parametrize(
    ("version", "looks", "more"),
    [
        (130022, False, ""),
        (150010, True, " -c client_connection_check_interval=1000"),
        (160004, False, ""),
        (170000, False, " -c transaction_timeout=3600000"),
        (180001, True, " -c transaction_timeout=3600000 -c client_connection_check_interval=1000"),
    ],
)
def test_the_server_keeps_the_limits_that_its_version_knows(version: int, looks: bool, more: str) -> None:
    assert pgoptions(0.5, 3600, 5, version, looks=looks) == BASE + more


def test_what_is_left_is_what_was_pending_and_is_not_in_the_ledger() -> None:
    ledger = {"table": "t", "version_column": "name"}
    command = parse_command({"argv": ["m"], "ledger": ledger, "suffixes": [".js"]})
    assert left_of(command, ["1_a", "2_b", "3_c"], ["1_a.js", "2_b"]) == ["3_c"]
