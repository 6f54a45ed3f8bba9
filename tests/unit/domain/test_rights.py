# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an ordinary role may not do is refused with the right that is missing."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.rights import (
    BackupLacks,
    RestoreLacks,
    backup_refusals,
    restore_refusals,
)


@pytest.mark.parametrize(
    ("lacks", "create", "code", "remedy"),
    [
        (RestoreLacks('o"p', owners=["app"]), [], "not_a_member", 'GRANT "app" TO "o""p"'),
        (RestoreLacks("op", extensions=["file_fdw"]), [], "superuser_extension", "superuser"),
        (
            RestoreLacks("op", settings=["log_statement"]),
            [],
            "superuser_setting",
            "GRANT SET ON PARAMETER log_statement",
        ),
        (RestoreLacks("op", roles=["app"]), [], "role_settings", "CREATEROLE"),
        (RestoreLacks("op", creates_roles=False), ["app"], "may_not_create_roles", 'ALTER ROLE "op" CREATEROLE'),
    ],
)
def test_a_right_that_a_restore_needs_is_named(lacks: RestoreLacks, create: list[str], code: str, remedy: str) -> None:
    (refusal,) = restore_refusals(lacks, create)
    assert refusal.error.code == code
    assert remedy in refusal.error.remedy
    assert not refusal.acknowledgeable


def test_a_superuser_lacks_nothing_and_no_role_is_to_be_made_is_no_lack() -> None:
    assert restore_refusals(RestoreLacks(), ["app"]) == []
    assert restore_refusals(RestoreLacks("op", creates_roles=False), []) == []
    assert backup_refusals(BackupLacks()) == []


def test_what_a_backup_would_leave_out_is_named_all_at_once() -> None:
    found = backup_refusals(BackupLacks("op", ["s.t"], ["s.hidden"], 3))
    assert [item.code for item in found] == ["not_readable", "row_security", "not_readable"]
    assert "s.hidden" in found[1].cause
