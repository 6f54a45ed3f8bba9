# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a login role that is not a superuser may not do, as refusals that name the right and how to grant it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.refusals import Refusal


@dataclass(frozen=True)
class RestoreLacks:
    """What stands between a login role and a restore; empty for a superuser.

    owners: roles that own objects of the set and that the role cannot become. roles: settings of other roles in the
    database that it may not set. extensions: those that only a superuser installs. settings: those of the database
    that it may not set. creates_roles: whether it may create roles.
    """

    login: str = ""
    owners: Sequence[str] = ()
    roles: Sequence[str] = ()
    extensions: Sequence[str] = ()
    settings: Sequence[str] = ()
    creates_roles: bool = True


@dataclass(frozen=True)
class BackupLacks:
    """What a login role cannot read, named: relations, those with row security over them, large objects (a number)."""

    login: str = ""
    relations: Sequence[str] = ()
    row_security: Sequence[str] = ()
    large_objects: int = 0


NO_RESTORE_LACKS = RestoreLacks()
NO_BACKUP_LACKS = BackupLacks()


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def restore_refusals(lacks: RestoreLacks, to_create: Sequence[str]) -> list[Refusal]:
    """Why the login role may not make this restore. to_create: roles that the restore would have to make."""
    login, found = _quoted(lacks.login), []
    if lacks.owners:
        grants = "; ".join(f"GRANT {_quoted(name)} TO {login}" for name in lacks.owners[:10])
        found.append(
            OpsError(
                "not_a_member",
                f"The login role {lacks.login!r} cannot give objects to their owners, of which it is no member: "
                f"{_list(lacks.owners)}.",
                f"Make it a member ({grants}), or log in as a superuser.",
                {"roles": list(lacks.owners)},
            )
        )
    if lacks.extensions:
        found.append(
            OpsError(
                "superuser_extension",
                f"Only a superuser installs these extensions of the set: {_list(lacks.extensions)}.",
                "Log in as a superuser for the restore; the vendor of a managed server has a role for it.",
                {"extensions": list(lacks.extensions)},
            )
        )
    if lacks.settings:
        grants = "; ".join(f"GRANT SET ON PARAMETER {name} TO {login}" for name in lacks.settings[:10])
        found.append(
            OpsError(
                "superuser_setting",
                f"The login role {lacks.login!r} may not set these settings of the database: {_list(lacks.settings)}.",
                f"Grant the right (from PostgreSQL 15: {grants}), or log in as a superuser.",
                {"settings": list(lacks.settings)},
            )
        )
    if lacks.roles:
        found.append(
            OpsError(
                "role_settings",
                f"The login role {lacks.login!r} may not set what these roles have set in the database: "
                f"{_list(lacks.roles)}.",
                f"Give it CREATEROLE (from PostgreSQL 16 also GRANT role TO {login} WITH ADMIN OPTION), or log in as a "
                "superuser.",
                {"roles": list(lacks.roles)},
            )
        )
    if to_create and not lacks.creates_roles:
        found.append(
            OpsError(
                "may_not_create_roles",
                f"The login role {lacks.login!r} may not create the roles that the server lacks: {_list(to_create)}.",
                f"ALTER ROLE {login} CREATEROLE, or create them with globals.sql of the set.",
                {"roles": list(to_create)},
            )
        )
    return [Refusal(error) for error in found]


def backup_refusals(lacks: BackupLacks) -> list[OpsError]:
    """Why the login role's backup would not be whole."""
    login, found = _quoted(lacks.login), []
    if lacks.relations:
        found.append(
            OpsError(
                "not_readable",
                f"The login role {lacks.login!r} may not read {len(lacks.relations)} tables or sequences: "
                f"{_list(lacks.relations)}.",
                f"GRANT pg_read_all_data TO {login}, or make it a member of their owners.",
                {"relations": list(lacks.relations)},
            )
        )
    if lacks.row_security:
        found.append(
            OpsError(
                "row_security",
                f"Row security hides rows of these tables from the login role {lacks.login!r}: "
                f"{_list(lacks.row_security)}.",
                f"ALTER ROLE {login} BYPASSRLS (a superuser can), or log in as a superuser.",
                {"relations": list(lacks.row_security)},
            )
        )
    if lacks.large_objects:
        found.append(
            OpsError(
                "not_readable",
                f"The login role {lacks.login!r} may not read {lacks.large_objects} large objects.",
                "GRANT SELECT ON LARGE OBJECT for each, or make it a member of their owners.",
                {"large_objects": lacks.large_objects},
            )
        )
    return found
