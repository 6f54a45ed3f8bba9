# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the login role may not do, read from the catalogs before anything is begun."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import Database
from ansible_collections.saasops.runbook.plugins.module_utils.domain.rights import BackupLacks, RestoreLacks
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import Relation

# members of extensions are made by CREATE EXTENSION, with owners of its choosing; types and indexes follow their table
_OWNERS = """
SELECT DISTINCT pg_get_userbyid(owner)::text AS name FROM (
  SELECT datdba AS owner FROM pg_database WHERE datname = current_database()
  UNION ALL
  SELECT o.owner FROM (
    SELECT 'pg_class'::regclass AS classid, oid, relowner AS owner FROM pg_class WHERE relpersistence <> 't'
    UNION ALL SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc
    UNION ALL SELECT 'pg_type'::regclass, oid, typowner FROM pg_type WHERE typrelid = 0
    UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner FROM pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL SELECT 'pg_largeobject'::regclass, oid, lomowner FROM pg_largeobject_metadata
  ) o WHERE o.oid >= 16384 AND NOT EXISTS (
    SELECT FROM pg_depend e WHERE e.classid = o.classid AND e.objid = o.oid AND e.deptype IN ('e', 'i'))
) owners ORDER BY 1
"""


def owners_of(session: Session) -> list[str]:
    """Roles that a restore of the session's database must give objects to."""
    return [str(row["name"]) for row in session.rows(_OWNERS)]


def _names(session: Session, sql: str) -> list[str]:
    return [str(row["name"]) for row in session.rows(sql)]


def restore_lacks(
    session: Session, owners: Sequence[str], extensions: Collection[str], own: Database, *, whole: bool
) -> RestoreLacks:
    """What the login role may not do of a restore. whole: the database's own settings are restored as well.

    Roles that the server does not have yet are left out: the login role becomes a member of those it makes.
    """
    login = session.rows(
        "SELECT rolname::text AS name, rolsuper AS super, rolcreaterole AS creates FROM pg_roles"
        " WHERE rolname = current_user"
    )[0]
    if login["super"]:
        return RestoreLacks()
    # from 16 on a member may inherit the rights of a role without being allowed to become it
    become = "'set'" if session.version >= 160000 else "'member'"
    allowed = "has_parameter_privilege(name, 'SET')" if session.version >= 150000 else "false"
    settings = [item.name for item in own.settings if not item.role] if whole else []
    others = [item.role for item in own.settings if item.role and item.role != login["name"]] if whole else []
    admin = "(r.rolsuper OR NOT pg_has_role(r.oid, 'usage with admin option'))" if session.version >= 160000 else "true"
    if login["creates"] and session.version < 160000:
        admin = "r.rolsuper"
    return RestoreLacks(
        login=str(login["name"]),
        owners=_names(
            session,
            render(
                f"SELECT rolname::text AS name FROM pg_roles WHERE rolname::text = ANY ({{owners}})"
                f" AND rolname !~ '^pg_' AND NOT pg_has_role(oid, {become}) ORDER BY 1",
                owners=list(owners) or [""],
            ),
        ),
        roles=_names(
            session,
            render(
                f"SELECT r.rolname::text AS name FROM pg_roles r WHERE r.rolname::text = ANY ({{names}}) AND {admin}"
                " ORDER BY 1",
                names=others or [""],
            ),
        ),
        extensions=_names(
            session,
            render(
                "SELECT DISTINCT name::text AS name FROM pg_available_extension_versions"
                " WHERE name::text = ANY ({names}) AND name <> 'plpgsql' AND superuser AND NOT trusted ORDER BY 1",
                names=list(extensions) or [""],
            ),
        ),
        settings=_names(
            session,
            render(
                f"SELECT name FROM pg_settings WHERE name = ANY ({{names}})"
                f" AND context IN ('superuser', 'superuser-backend') AND NOT {allowed} ORDER BY 1",
                names=settings or [""],
            ),
        ),
        creates_roles=bool(login["creates"]),
    )


def backup_lacks(session: Session, found: Sequence[Relation], schemas: Sequence[str]) -> BackupLacks:
    """What the login role cannot read of these relations, their schemas' sequences, and the large objects."""
    login = session.rows("SELECT rolname::text AS name, rolsuper AS super FROM pg_roles WHERE rolname = current_user")
    if login[0]["super"]:
        return BackupLacks()
    oids = [item.oid for item in found if item.kind in "rpm"]
    unreadable = render(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE (c.oid::bigint = ANY ({oids}) OR c.relkind = 'S' AND c.relpersistence <> 't'"
        "        AND n.nspname !~ '^pg_' AND (n.nspname::text = ANY ({schemas}) OR {all}))"
        # the relation's owner alone may read it in a schema that is closed to him, which pg_dump may not
        " AND NOT (has_schema_privilege(n.oid, 'USAGE') AND CASE c.relkind"
        "          WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT') ELSE has_table_privilege(c.oid, 'SELECT') END)"
        " ORDER BY 1",
        oids=oids or [0],
        schemas=list(schemas) or [""],
        all=not schemas,
    )
    hidden = render(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid::bigint = ANY ({oids}) AND row_security_active(c.oid) ORDER BY 1",
        oids=oids or [0],
    )
    large = session.value(
        "SELECT count(*) FROM pg_largeobject_metadata l WHERE NOT pg_has_role(l.lomowner, 'usage') AND NOT EXISTS"
        " (SELECT FROM aclexplode(l.lomacl) e WHERE e.privilege_type = 'SELECT'"
        "   AND (e.grantee = 0 OR pg_has_role(e.grantee, 'usage')))"
    )
    return BackupLacks(
        str(login[0]["name"]),
        _names(session, unreadable),
        _names(session, hidden),
        # schemas carry no large objects
        0 if schemas else int(str(large)),
    )
