# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the properties of a database (domain.properties) from the catalogs, and set the database's own right."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import Database, Grant, Setting
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.catalog_texts import GROUPED
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rights import owners_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, literal, render

# the texts that name objects are kept whole up to this many in all; beyond it only counts and hashes travel
TEXTS_KEPT = 20_000
PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin", "d": "libc"}
# settings whose value is a list of names, each quoted by itself (GUC_LIST_QUOTE in the server's source)
LISTS = (
    "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
    "temp_tablespaces", "unix_socket_directories",
)  # fmt: skip


def _locale_columns(version: int) -> str:
    """pg_database's locale columns under one set of names, whatever the server's version (server_version_num)."""
    provider = "datlocprovider::text" if version >= 150000 else "'c'::text"
    locale = "datlocale" if version >= 170000 else "daticulocale" if version >= 150000 else "NULL::text"
    rules = "daticurules" if version >= 160000 else "NULL::text"
    stamp = "datcollversion" if version >= 150000 else "NULL::text"
    actual = "pg_database_collation_actual_version(d.oid)" if version >= 150000 else "NULL::text"
    return (
        f"{provider} AS provider, coalesce({locale}, '') AS locale, coalesce({rules}, '') AS icu_rules,"
        f" coalesce({stamp}, '') AS collation_version, coalesce({actual}, '') AS collation_actual"
    )


def read_database(session: Session, database: str) -> Database | None:
    """The database's own traits, read from any database of the server; None when there is no such database."""
    rows = session.rows(
        render(
            "SELECT d.oid::bigint AS oid, pg_get_userbyid(d.datdba)::text AS owner,"
            " pg_encoding_to_char(d.encoding)::text AS encoding,"
            " d.datcollate::text AS collate, d.datctype::text AS ctype,"
            " t.spcname::text AS tablespace, d.datconnlimit AS connection_limit, d.datistemplate AS is_template,"
            " coalesce(shobj_description(d.oid, 'pg_database'), '') AS comment, {locale:raw}"
            " FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname::text = {name}",
            locale=_locale_columns(session.version),
            name=database,
        )
    )
    if not rows:
        return None
    row = rows[0]
    oid = int(str(row["oid"]))
    return Database(
        owner=str(row["owner"]),
        encoding=str(row["encoding"]),
        locale_provider=PROVIDERS[str(row["provider"])],
        collate=str(row["collate"]),
        ctype=str(row["ctype"]),
        locale=str(row["locale"]),
        icu_rules=str(row["icu_rules"]),
        collation_version=str(row["collation_version"]),
        tablespace=str(row["tablespace"]),
        connection_limit=int(str(row["connection_limit"])),
        is_template=bool(row["is_template"]),
        comment=str(row["comment"]),
        grants=_grants(session, oid),
        settings=_settings(session, oid),
        labels=_labels(session, oid),
    )


def _grants(session: Session, oid: int) -> tuple[Grant, ...]:
    rows = session.rows(
        render(
            "SELECT DISTINCT CASE e.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(e.grantee)::text END AS grantee,"
            " e.privilege_type AS privilege, e.is_grantable AS grantable FROM pg_database d,"
            " aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) e WHERE d.oid = {oid}::oid",
            oid=oid,
        )
    )
    return tuple(sorted(Grant(str(r["grantee"]), str(r["privilege"]), bool(r["grantable"])) for r in rows))


def _settings(session: Session, oid: int) -> tuple[Setting, ...]:
    rows = session.rows(
        render(
            "SELECT CASE s.setrole WHEN 0 THEN '' ELSE pg_get_userbyid(s.setrole)::text END AS role, c.line"
            " FROM pg_db_role_setting s, unnest(s.setconfig) AS c(line) WHERE s.setdatabase = {oid}::oid",
            oid=oid,
        )
    )
    found = []
    for row in rows:
        name, _equals, value = str(row["line"]).partition("=")
        found.append(Setting(str(row["role"]), name, value))
    return tuple(sorted(found))


def _labels(session: Session, oid: int) -> tuple[tuple[str, str], ...]:
    rows = session.rows(
        render(
            "SELECT provider, label FROM pg_shseclabel"
            " WHERE classoid = 'pg_database'::regclass AND objoid = {oid}::oid",
            oid=oid,
        )
    )
    return tuple(sorted((str(r["provider"]), str(r["label"])) for r in rows))


@contextlib.contextmanager
def _qualified_names(session: Session) -> Iterator[None]:
    """Let the server print every name with its schema, and give the session its search_path back."""
    before = session.value("SELECT current_setting('search_path') AS path")
    session.run("SET search_path = ''")
    try:
        yield
    finally:
        with contextlib.suppress(OpsError):
            # the raw text is what set_config wants; SET would take it for one name
            session.value(render("SELECT set_config('search_path', {path}, false)", path=str(before)))


_EXTENSIONS = (
    "SELECT e.extname::text AS name, e.extversion AS version, n.nspname::text AS schema"
    " FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
)
_PUBLICATIONS = """
SELECT p.pubname::text AS name, concat_ws(' ', 'owner', pg_get_userbyid(p.pubowner),
       CASE WHEN p.puballtables THEN 'all tables' END, CASE WHEN p.pubinsert THEN 'insert' END,
       CASE WHEN p.pubupdate THEN 'update' END, CASE WHEN p.pubdelete THEN 'delete' END,
       CASE WHEN p.pubtruncate THEN 'truncate' END, CASE WHEN p.pubviaroot THEN 'via root' END,
       (SELECT string_agg(r.prrelid::regclass::text, ', ' ORDER BY r.prrelid::regclass::text COLLATE "C")
          FROM pg_publication_rel r WHERE r.prpubid = p.oid){schemas}) AS text
  FROM pg_publication p
"""
_PUBLISHED_SCHEMAS = """,
       (SELECT 'schemas ' || string_agg(s.pnnspid::regnamespace::text, ', '
                                        ORDER BY s.pnnspid::regnamespace::text COLLATE "C")
          FROM pg_publication_namespace s WHERE s.pnpubid = p.oid)"""
_EVENT_TRIGGERS = """
SELECT t.evtname::text AS name, concat_ws(' ', t.evtevent, t.evtenabled, t.evtfoid::regprocedure,
       'owner', pg_get_userbyid(t.evtowner), array_to_string(t.evttags, ',')) AS text
  FROM pg_event_trigger t WHERE NOT EXISTS (SELECT FROM pg_depend x
       WHERE x.classid = 'pg_event_trigger'::regclass AND x.objid = t.oid AND x.deptype = 'e')
"""
# what stands in the list but changes nothing against the default is written by nobody; both sides expand alike
_DEFAULT_PRIVILEGES = """
SELECT concat_ws(' ', pg_get_userbyid(a.defaclrole), coalesce('in ' || n.nspname, 'everywhere'), a.defaclobjtype,
       CASE e.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(e.grantee) END) AS name,
       string_agg(e.privilege_type || CASE WHEN e.is_grantable THEN '*' ELSE '' END, ','
                  ORDER BY e.privilege_type) AS text
  FROM pg_default_acl a LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace
 CROSS JOIN LATERAL aclexplode(a.defaclacl) e
 GROUP BY 1
"""
_STATISTICS = """
SELECT n.nspname || '.' || s.stxname AS name, concat_ws(' ', 'on', s.stxrelid::regclass, 'owner',
       pg_get_userbyid(s.stxowner), array_to_string(s.stxkind, ','),
       (SELECT string_agg(a.attname, ',' ORDER BY a.attname) FROM pg_attribute a
         WHERE a.attrelid = s.stxrelid AND a.attnum = ANY (s.stxkeys::int2[]))) AS text
  FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
"""
# pg_shdepend knows every role but the one that initdb made: what that one owns is looked up by itself
_ROLES = """
SELECT DISTINCT pg_get_userbyid(role)::text AS name FROM (
  SELECT s.refobjid AS role FROM pg_shdepend s, pg_database d WHERE d.datname = current_database()
     AND s.refclassid = 'pg_authid'::regclass
     AND (s.dbid = d.oid OR (s.classid = 'pg_database'::regclass AND s.objid = d.oid))
  UNION ALL SELECT datdba FROM pg_database WHERE datname = current_database()
  UNION ALL SELECT relowner FROM pg_class WHERE oid >= 16384
  UNION ALL SELECT proowner FROM pg_proc WHERE oid >= 16384
  UNION ALL SELECT typowner FROM pg_type WHERE oid >= 16384
  UNION ALL SELECT nspowner FROM pg_namespace WHERE oid >= 16384
  UNION ALL SELECT s.setrole FROM pg_db_role_setting s, pg_database d
   WHERE s.setdatabase = d.oid AND d.datname = current_database() AND s.setrole <> 0
) owners WHERE role <> 0 ORDER BY 1
"""
_TABLESPACES = """
SELECT t.spcname::text AS name FROM pg_tablespace t WHERE t.spcname NOT IN ('pg_default', 'pg_global')
   AND (EXISTS (SELECT FROM pg_class c WHERE c.reltablespace = t.oid)
        OR EXISTS (SELECT FROM pg_database d WHERE d.datname = current_database() AND d.dattablespace = t.oid))
 ORDER BY 1
"""


def _texts(session: Session, sql: str) -> dict[str, Json]:
    return {str(row["name"]): row["text"] for row in session.rows(sql)}


def _objects(session: Session) -> dict[str, Json]:
    rows = session.rows(GROUPED)
    kept = sum(len(cast("list[Json]", row["items"])) for row in rows if row["items"]) <= TEXTS_KEPT
    found: dict[str, Json] = {}
    for row in rows:
        group = cast("dict[str, Json]", found.setdefault(str(row["schema"]), {}))
        group[str(row["kind"])] = {"count": row["count"], "hash": row["hash"], "items": row["items"] if kept else None}
    return found


def read_properties(session: Session, database: str) -> dict[str, Json]:
    """All properties of the database that the session is in, as contents.json keeps them.

    The session may be inside a snapshot's transaction; its search_path is given back.
    Raises OpsError unknown_database.
    """
    own = read_database(session, database)
    if own is None:
        raise OpsError(
            "unknown_database", f"There is no database {database!r}.", "Check the name; it is case-sensitive."
        )
    with _qualified_names(session):
        schemas = _PUBLISHED_SCHEMAS if session.version >= 150000 else ""
        return {
            "server_major": session.version // 10000,
            "bytes": session.value("SELECT pg_database_size(current_database()) AS bytes"),
            "database": own.as_json(),
            "extensions": {
                str(r["name"]): {"version": r["version"], "schema": r["schema"]} for r in session.rows(_EXTENSIONS)
            },
            "publications": _texts(session, _PUBLICATIONS.replace("{schemas}", schemas)),
            "event_triggers": _texts(session, _EVENT_TRIGGERS),
            "default_privileges": _texts(session, _DEFAULT_PRIVILEGES),
            "statistics": _texts(session, _STATISTICS),
            "objects": _objects(session),
            "schemas": {
                str(r["name"]): {"owner": r["owner"], "comment": r["comment"], "grants": r["grants"]}
                for r in session.rows(_SCHEMAS)
            },
            "roles": [r["name"] for r in session.rows(_ROLES)],
            "owners": list(owners_of(session)),
            "tablespaces": [r["name"] for r in session.rows(_TABLESPACES)],
        }


# enough to create a schema for a restore of named schemas: pg_restore -n leaves the schema itself out
_SCHEMAS = """
SELECT n.nspname::text AS name, pg_get_userbyid(n.nspowner)::text AS owner,
       obj_description(n.oid, 'pg_namespace') AS comment,
       (SELECT json_agg(json_build_object('privilege', e.privilege_type, 'grantable', e.is_grantable,
               'grantee', CASE e.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(e.grantee)::text END))
          FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) e) AS grants
  FROM pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_depend x
                    WHERE x.classid = 'pg_namespace'::regclass AND x.objid = n.oid AND x.deptype = 'e')
"""


def split_names(value: str) -> list[str]:
    """The names in the raw text of a list setting, as the server's SplitIdentifierString reads them."""
    found = []
    for quoted, plain in re.findall(r'\s*(?:"((?:[^"]|"")*)"|([^,"\s][^,"]*))\s*(?:,|$)', value):
        found.append(quoted.replace('""', '"') if quoted or not plain else plain.strip().lower())
    return found


def _value(setting: Setting) -> str:
    if setting.name.lower() in LISTS:
        return ", ".join(literal(name) for name in split_names(setting.value)) or "''"
    return literal(setting.value)


def _to(grantee: str) -> str:
    return ident(grantee) if grantee else "PUBLIC"


def grant_statements(kind: str, name: str, current: tuple[Grant, ...], wanted: tuple[Grant, ...]) -> list[str]:
    """REVOKE and GRANT that lead from one list of grants to another; kind is DATABASE or SCHEMA."""
    statements = []
    for grant in sorted(set(current) - set(wanted)):
        statements.append(f"REVOKE {grant.privilege} ON {kind} {ident(name)} FROM {_to(grant.grantee)}")
    for grant in sorted(set(wanted) - set(current)):
        option = " WITH GRANT OPTION" if grant.grantable else ""
        statements.append(f"GRANT {grant.privilege} ON {kind} {ident(name)} TO {_to(grant.grantee)}{option}")
    return statements


def statements_towards(name: str, current: Database, wanted: Database) -> list[str]:
    """SQL that gives the database `name` the wanted traits, apart from its owner and from what CREATE fixed."""
    quoted = ident(name)
    found = []
    if current.connection_limit != wanted.connection_limit:
        found.append(f"ALTER DATABASE {quoted} CONNECTION LIMIT {wanted.connection_limit}")
    if current.is_template != wanted.is_template:
        found.append(f"ALTER DATABASE {quoted} IS_TEMPLATE {literal(wanted.is_template)}")
    if current.comment != wanted.comment:
        found.append(f"COMMENT ON DATABASE {quoted} IS {literal(wanted.comment or None)}")
    found += grant_statements("DATABASE", name, current.grants, wanted.grants)
    for setting in sorted(set(current.settings) - set(wanted.settings)):
        found.append(f"ALTER {_scope(setting, quoted)} RESET {ident(setting.name)}")
    for setting in sorted(set(wanted.settings) - set(current.settings)):
        found.append(f"ALTER {_scope(setting, quoted)} SET {ident(setting.name)} TO {_value(setting)}")
    for provider, _label in sorted(set(current.labels) - set(wanted.labels)):
        found.append(f"SECURITY LABEL FOR {ident(provider)} ON DATABASE {quoted} IS NULL")
    for provider, label in sorted(set(wanted.labels) - set(current.labels)):
        found.append(f"SECURITY LABEL FOR {ident(provider)} ON DATABASE {quoted} IS {literal(label)}")
    return found


def _scope(setting: Setting, quoted_database: str) -> str:
    return (
        f"ROLE {ident(setting.role)} IN DATABASE {quoted_database}" if setting.role else f"DATABASE {quoted_database}"
    )


def set_right(session: Session, name: str, wanted: Database) -> list[str]:
    """Give the database the wanted traits in one transaction and return the SQL that was needed.

    The session is one of another database. Raises OpsError (server's), unknown_database.
    """
    done: list[str] = []
    session.run("BEGIN")
    try:
        current = _existing(session, name)
        if current.owner != wanted.owner:
            done.append(f"ALTER DATABASE {ident(name)} OWNER TO {ident(wanted.owner)}")
            session.run(done[-1])
            # a new owner takes the old one's grants over, so they are read again
            current = _existing(session, name)
        for statement in statements_towards(name, current, wanted):
            session.run(statement)
            done.append(statement)
        session.run("COMMIT")
    except OpsError:
        session.run("ROLLBACK")
        raise
    return done


def _existing(session: Session, name: str) -> Database:
    found = read_database(session, name)
    if found is None:
        raise OpsError("unknown_database", f"There is no database {name!r}.", "Check the name; it is case-sensitive.")
    return found


def create_statement(name: str, wanted: Database, version: int, owner: str = "") -> str:
    """CREATE DATABASE from template0 with the wanted encoding, locale and tablespace.

    version is the new server's server_version_num. Raises OpsError locale_provider_unknown when it is too old.
    """
    parts = [
        f"CREATE DATABASE {ident(name)} TEMPLATE template0 ENCODING {literal(wanted.encoding)}",
        f"LC_COLLATE {literal(wanted.collate)} LC_CTYPE {literal(wanted.ctype)}",
    ]
    # naming even the default one asks for a right on it that only superusers have
    if wanted.tablespace != "pg_default":
        parts.append(f"TABLESPACE {ident(wanted.tablespace)}")
    if owner:
        parts.append(f"OWNER {ident(owner)}")
    needed = {"libc": 0, "icu": 150000, "builtin": 170000}[wanted.locale_provider]
    if version < needed or (wanted.icu_rules and version < 160000):
        raise OpsError(
            "locale_provider_unknown",
            f"The database's locale provider {wanted.locale_provider} is unknown to server version {version // 10000}.",
            "Restore on a server of the source's major version or a later one.",
        )
    if wanted.locale_provider == "icu":
        parts.append(f"LOCALE_PROVIDER icu ICU_LOCALE {literal(wanted.locale)}")
        if wanted.icu_rules:
            parts.append(f"ICU_RULES {literal(wanted.icu_rules)}")
    elif wanted.locale_provider == "builtin":
        parts.append(f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {literal(wanted.locale)}")
    elif version >= 150000:
        parts.append("LOCALE_PROVIDER libc")
    return " ".join(parts)


def collation_version_now(session: Session, wanted: Database) -> str | None:
    """The version that this server's library has of the wanted collation; None when it cannot be told.

    A libc collation is looked for by name, ignoring case and punctuation of the encoding (utf8, UTF-8).
    """
    if wanted.locale_provider == "builtin" or session.version < 150000:
        return None
    provider, name = ("i", wanted.locale) if wanted.locale_provider == "icu" else ("c", wanted.collate)
    column = ("colllocale" if session.version >= 170000 else "colliculocale") if provider == "i" else "collcollate"
    found = session.value(
        render(
            "SELECT pg_collation_actual_version(oid) FROM pg_collation WHERE collprovider = {provider}"
            " AND lower(replace({column:I}, '-', '')) = lower(replace({name}, '-', '')) LIMIT 1",
            provider=provider,
            column=column,
            name=name,
        )
    )
    return None if found is None else str(found)


def known_names(session: Session, sql: str, names: Mapping[str, Json] | list[Json]) -> list[str]:
    """The names among those given that a one-column query does not list."""
    present = {next(iter(row.values())) for row in session.rows(sql)}
    return sorted(str(name) for name in names if name not in present)
