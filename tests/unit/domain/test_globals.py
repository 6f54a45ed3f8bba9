# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles in a script of pg_dumpall, and what is said when a server has them in another way."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.globals import (
    Role,
    parse_roles,
    role_notes,
    undefined_roles,
)

SCRIPT = """--
-- Roles; and a comment with a ; in it
--

CREATE ROLE "app";
ALTER ROLE "app" WITH NOSUPERUSER INHERIT LOGIN CONNECTION LIMIT 5 PASSWORD 'SCRAM;x' VALID UNTIL '2030-01-01 00:00';
CREATE ROLE "it""s; odd";
ALTER ROLE "it""s; odd" WITH NOLOGIN;
ALTER ROLE "app" SET "work_mem" TO '4;MB';
COMMENT ON ROLE "app" IS 'CREATE ROLE "none";';
GRANT "it""s; odd" TO "app" WITH INHERIT TRUE GRANTED BY "postgres";
GRANT ALL ON TABLESPACE "fast" TO "app";
CREATE TABLESPACE "fast" OWNER "app" LOCATION '/fast';
"""


def test_roles_are_read_with_attributes_memberships_and_settings_and_without_passwords() -> None:
    assert parse_roles(SCRIPT) == {
        "app": Role(
            frozenset(["NOSUPERUSER", "INHERIT", "LOGIN", "CONNECTION LIMIT 5", "VALID UNTIL '2030-01-01 00:00'"]),
            frozenset(['it"s; odd']),
            frozenset(["\"work_mem\" TO '4;MB'"]),
        ),
        'it"s; odd': Role(frozenset(["NOLOGIN"])),
    }


def test_who_granted_a_membership_and_how_versions_print_it_does_not_matter() -> None:
    older = SCRIPT.replace(' WITH INHERIT TRUE GRANTED BY "postgres"', ' GRANTED BY "admin"')
    assert parse_roles(older) == parse_roles(SCRIPT)


def test_a_role_that_objects_need_and_the_script_lacks_is_a_difference() -> None:
    found = undefined_roles(["app", "reader", "pg_database_owner"], parse_roles(SCRIPT))
    assert [item.object for item in found] == ["role reader"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((" LOGIN", " NOLOGIN"), "attributes here: lacks LOGIN; has beyond the set NOLOGIN"),
        (('GRANT "it', 'GRANT "an'), 'memberships here: lacks it"s; odd; has beyond the set an"s; odd'),
        (("4;MB", "8;MB"), "settings here"),
        (("SCRAM;x", "SCRAM;y"), ""),
    ],
    ids=["attribute", "membership", "setting", "password"],
)
def test_a_role_that_the_server_has_in_another_way_is_named(change: tuple[str, str], said: str) -> None:
    notes = role_notes(["app"], parse_roles(SCRIPT), parse_roles(SCRIPT.replace(*change)))
    assert [said in note for note in notes] == ([True] if said else [])


def test_roles_that_the_objects_do_not_need_are_not_compared() -> None:
    assert role_notes([], parse_roles(SCRIPT), parse_roles(SCRIPT.replace(" LOGIN", " NOLOGIN"))) == []
